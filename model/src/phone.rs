//! The phone inventory that unit quality is measured on: the 39 phones of ARPAbet as CMU's dictionary uses it, and silence.

/// The labels of all phones, silence first; a [`Phone`] is an index into it.
pub const INVENTORY: [&str; 40] = [
    "sil", "AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY",
    "JH", "K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH",
];

/// One phone of the [`INVENTORY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Phone(u8);

impl Phone {
    /// Silence, which gaps between labels also are.
    pub const SILENCE: Self = Self(0);

    /// The index into the [`INVENTORY`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The label without stress.
    pub fn label(self) -> &'static str {
        INVENTORY[self.index()]
    }

    /// Reads an aligner's label: stress digits are dropped, `sp` and an empty label are silence, and `spn` (spoken noise, a word
    /// the aligner doesn't know) is `None`: it belongs to no phone and is not counted.
    ///
    /// An error for a label outside the inventory.
    pub fn parse(label: &str) -> Result<Option<Self>, UnknownPhone> {
        match label {
            "sil" | "sp" | "" => return Ok(Some(Self::SILENCE)),
            "spn" => return Ok(None),
            _ => {}
        }
        let plain = label.strip_suffix(['0', '1', '2']).unwrap_or(label);
        let index = INVENTORY.iter().skip(1).position(|&phone| phone == plain);
        index.map(|index| Some(Self(index as u8 + 1))).ok_or_else(|| UnknownPhone(label.to_owned()))
    }
}

/// A label that is no phone of the inventory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a phone: ARPAbet with or without stress, `sil`, `sp` and `spn` are known")]
pub struct UnknownPhone(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phone_is_its_own_label() {
        for (index, label) in INVENTORY.iter().enumerate() {
            let phone = Phone::parse(label).unwrap().unwrap();
            assert_eq!((phone.index(), phone.label()), (index, *label));
        }
    }

    #[test]
    fn stress_is_dropped_and_aligners_silences_are_one() {
        assert_eq!(Phone::parse("AH0"), Phone::parse("AH"));
        assert_eq!(Phone::parse("sp"), Ok(Some(Phone::SILENCE)));
        assert_eq!(Phone::parse("spn"), Ok(None));
        for unknown in ["ah", "AX", "AH3", "AH11", "0", "SIL"] {
            assert_eq!(Phone::parse(unknown), Err(UnknownPhone(unknown.into())));
        }
    }
}
