//! A second implementation of the documented byte rules (`reprise_spec::canon`), straight from what serde tells to bytes, without the tree that
//! the program builds on the way.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::ser::{self, Serialize};

/// The canonical bytes of a value.
pub fn bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    value.serialize(Bytes).unwrap()
}

#[derive(Debug)]
pub struct Never(String);

impl Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Written = Result<Vec<u8>, Never>;

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

fn variant(name: &str, value: Vec<u8>) -> Vec<u8> {
    [vec![7], sized(name.as_bytes()), value].concat()
}

fn int(value: i128) -> Written {
    Ok([vec![2], value.to_le_bytes().to_vec()].concat())
}

fn refused<T>(what: &str) -> Result<T, Never> {
    Err(Never(format!("no setting is {what}")))
}

struct Bytes;

/// Items of a list, or entries of a map, under the name of a variant where there is one.
struct Many {
    name: Option<&'static str>,
    items: Vec<Vec<u8>>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    key: Vec<u8>,
}

impl Many {
    fn of(name: Option<&'static str>) -> Self {
        Self { name, items: Vec::new(), entries: BTreeMap::new(), key: Vec::new() }
    }

    fn named(name: Option<&'static str>, value: Vec<u8>) -> Written {
        Ok(name.map_or(value.clone(), |name| variant(name, value)))
    }

    fn list(self) -> Written {
        let count = (self.items.len() as u64).to_le_bytes().to_vec();
        Self::named(self.name, [vec![vec![5], count], self.items].concat().concat())
    }

    fn map(self) -> Written {
        let mut bytes = [vec![6], (self.entries.len() as u64).to_le_bytes().to_vec()].concat();
        for (key, value) in self.entries {
            bytes.extend(sized(&key));
            bytes.extend(value);
        }
        Self::named(self.name, bytes)
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        self.items.push(value.serialize(Bytes)?);
        Ok(())
    }

    /// A field that is `None`, which alone gives a unit here, is left out.
    fn field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Never> {
        let value = value.serialize(Bytes)?;
        if value != [0] {
            self.entries.insert(name.as_bytes().to_vec(), value);
        }
        Ok(())
    }
}

macro_rules! ints {
    ($($name:ident: $of:ty),*) => { $(fn $name(self, value: $of) -> Written { int(i128::from(value)) })* };
}

impl ser::Serializer for Bytes {
    type Ok = Vec<u8>;
    type Error = Never;
    type SerializeSeq = Many;
    type SerializeTuple = Many;
    type SerializeTupleStruct = Many;
    type SerializeTupleVariant = Many;
    type SerializeMap = Many;
    type SerializeStruct = Many;
    type SerializeStructVariant = Many;

    ints!(serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64);
    ints!(serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64);

    fn serialize_bool(self, value: bool) -> Written {
        Ok(vec![1, u8::from(value)])
    }

    fn serialize_f32(self, value: f32) -> Written {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Written {
        let value = if value == 0.0 { 0.0 } else { value };
        Ok([vec![3], value.to_le_bytes().to_vec()].concat())
    }

    fn serialize_char(self, _: char) -> Written {
        refused("a character")
    }

    fn serialize_str(self, text: &str) -> Written {
        Ok([vec![4], sized(text.as_bytes())].concat())
    }

    fn serialize_bytes(self, _: &[u8]) -> Written {
        refused("bytes")
    }

    fn serialize_none(self) -> Written {
        Ok(vec![0])
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Written {
        Ok(vec![0])
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        Ok(vec![0])
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Written {
        Ok(variant(name, vec![0]))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Written {
        Ok(variant(name, value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Many, Never> {
        Ok(Many::of(None))
    }

    fn serialize_tuple(self, _: usize) -> Result<Many, Never> {
        Ok(Many::of(None))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Many, Never> {
        Ok(Many::of(None))
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, name: &'static str, _: usize) -> Result<Many, Never> {
        Ok(Many::of(Some(name)))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Many, Never> {
        Ok(Many::of(None))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Many, Never> {
        Ok(Many::of(None))
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, name: &'static str, _: usize) -> Result<Many, Never> {
        Ok(Many::of(Some(name)))
    }
}

macro_rules! lists {
    ($($what:ident: $add:ident),*) => { $(impl ser::$what for Many {
        type Ok = Vec<u8>;
        type Error = Never;

        fn $add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
            self.item(value)
        }

        fn end(self) -> Written {
            self.list()
        }
    })* };
}

macro_rules! structs {
    ($($what:ident),*) => { $(impl ser::$what for Many {
        type Ok = Vec<u8>;
        type Error = Never;

        fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Never> {
            self.field(name, value)
        }

        fn end(self) -> Written {
            self.map()
        }
    })* };
}

lists!(SerializeSeq: serialize_element, SerializeTuple: serialize_element);
lists!(SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field);
structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Many {
    type Ok = Vec<u8>;
    type Error = Never;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Never> {
        self.key = key.serialize(Bytes)?[9..].to_vec(); // behind tag and length
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        let value = value.serialize(Bytes)?;
        self.entries.insert(std::mem::take(&mut self.key), value);
        Ok(())
    }

    fn end(self) -> Written {
        self.map()
    }
}
