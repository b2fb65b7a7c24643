//! Any serialisable value into its tree.

use std::collections::BTreeMap;

use serde::ser::{self, Serialize};

use super::{Canon, CanonError};

impl ser::Error for CanonError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        CanonError::Other(message.to_string())
    }
}

type Result = std::result::Result<Canon, CanonError>;

/// The serde serializer whose output is a tree.
pub(super) struct ToTree;

/// A list that grows; inside a variant when that has a name.
pub(super) struct Items(Option<&'static str>, Vec<Canon>);

/// A map that grows, with the key that waits for its value; inside a variant when that has a name.
pub(super) struct Entries(Option<&'static str>, BTreeMap<String, Canon>, String);

fn within(variant: Option<&'static str>, value: Canon) -> Canon {
    match variant {
        Some(name) => Canon::Variant(name.to_owned(), Box::new(value)),
        None => value,
    }
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> std::result::Result<(), CanonError> {
        self.1.push(value.serialize(ToTree)?);
        Ok(())
    }

    fn finish(self) -> Result {
        Ok(within(self.0, Canon::List(self.1)))
    }
}

impl Entries {
    fn insert(&mut self, key: String, value: Canon) -> std::result::Result<(), CanonError> {
        match self.1.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(CanonError::DuplicateKey(key)),
        }
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> std::result::Result<(), CanonError> {
        match value.serialize(ToTree)? {
            Canon::Unit => Ok(()),
            value => self.insert(key.to_owned(), value),
        }
    }

    fn finish(self) -> Result {
        Ok(within(self.0, Canon::Map(self.1)))
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {
        $(fn $method(self, value: $type) -> Result { Ok(Canon::Int(value.into())) })*
    };
}

impl ser::Serializer for ToTree {
    type Ok = Canon;
    type Error = CanonError;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    integers!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128);
    integers!(serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_u128(self, value: u128) -> Result {
        i128::try_from(value).map(Canon::Int).map_err(|_| CanonError::TooLarge)
    }

    fn serialize_bool(self, value: bool) -> Result {
        Ok(Canon::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> Result {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result {
        match value {
            0.0 => Ok(Canon::Float(0.0)), // -0.0 too
            value if value.is_finite() => Ok(Canon::Float(value)),
            value => Err(CanonError::NotFinite(value)),
        }
    }

    fn serialize_char(self, value: char) -> Result {
        Ok(Canon::Text(value.into()))
    }

    fn serialize_str(self, value: &str) -> Result {
        Ok(Canon::Text(value.to_owned()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result {
        Ok(Canon::List(value.iter().map(|byte| Canon::Int((*byte).into())).collect()))
    }

    fn serialize_none(self) -> Result {
        Ok(Canon::Unit)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        match value.serialize(self)? {
            Canon::Unit => Err(CanonError::NestedOption), // it would share its bytes with `None`
            value => Ok(value),
        }
    }

    fn serialize_unit(self) -> Result {
        Ok(Canon::Unit)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result {
        Ok(Canon::Unit)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result {
        Ok(within(Some(variant), Canon::Unit))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result {
        Ok(within(Some(variant), value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> std::result::Result<Items, CanonError> {
        Ok(Items(None, Vec::new()))
    }

    fn serialize_tuple(self, _: usize) -> std::result::Result<Items, CanonError> {
        Ok(Items(None, Vec::new()))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> std::result::Result<Items, CanonError> {
        Ok(Items(None, Vec::new()))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> std::result::Result<Items, CanonError> {
        Ok(Items(Some(variant), Vec::new()))
    }

    fn serialize_map(self, _: Option<usize>) -> std::result::Result<Entries, CanonError> {
        Ok(Entries(None, BTreeMap::new(), String::new()))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> std::result::Result<Entries, CanonError> {
        Ok(Entries(None, BTreeMap::new(), String::new()))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> std::result::Result<Entries, CanonError> {
        Ok(Entries(Some(variant), BTreeMap::new(), String::new()))
    }
}

/// The four kinds of sequence differ in the name of their method only.
macro_rules! sequences {
    ($($trait:ident::$method:ident),*) => {
        $(impl ser::$trait for Items {
            type Ok = Canon;
            type Error = CanonError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> std::result::Result<(), CanonError> {
                self.push(value)
            }

            fn end(self) -> Result {
                self.finish()
            }
        })*
    };
}

sequences!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! structs {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Entries {
            type Ok = Canon;
            type Error = CanonError;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> std::result::Result<(), CanonError> {
                self.field(key, value)
            }

            fn end(self) -> Result {
                self.finish()
            }
        })*
    };
}

structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Entries {
    type Ok = Canon;
    type Error = CanonError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> std::result::Result<(), CanonError> {
        match key.serialize(ToTree)? {
            Canon::Text(key) => self.2 = key,
            _ => return Err(CanonError::KeyIsNotText),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> std::result::Result<(), CanonError> {
        let value = value.serialize(ToTree)?;
        let key = std::mem::take(&mut self.2);
        self.insert(key, value)
    }

    fn end(self) -> Result {
        self.finish()
    }
}
