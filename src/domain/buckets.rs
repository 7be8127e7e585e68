//! Buckets: the numbers by which data are distributed over the machines of a database.
//!
//! An id of a chat, and of an object that belongs to a chat or a person, is a UUID of version 8 (RFC 9562, section
//! 5.8) that contains its bucket. A statement is therefore routed by the id alone.
//!
//! | bits | content                                          |
//! |------|--------------------------------------------------|
//! | 48   | milliseconds since 1970, or a part of a hash     |
//! | 4    | the version, 8                                   |
//! | 12   | the bucket                                       |
//! | 2    | the variant                                      |
//! | 62   | a counter and random bits, or a part of the hash |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid, Variant};

/// The version of a UUID that contains a bucket.
const UUID_VERSION: usize = 8;

/// The number of a part of the data, whose rows are stored on one machine of a distributed database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Bucket(i32);

/// The error for a number that is not one of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a bucket must be from 0 to 4095")]
pub struct BucketOutOfRange;

impl Bucket {
    /// The number of buckets.
    pub const COUNT: i32 = 4_096;

    /// Returns the bucket with a number from 0 to 4,095.
    pub fn new(number: i32) -> Option<Self> {
        (0..Self::COUNT).contains(&number).then_some(Self(number))
    }

    /// Returns the bucket of an organisation, which is the same for ever.
    ///
    /// Stored ids contain it.
    pub fn of_organization(id: &str) -> Self {
        let hash = Sha256::new().chain_update(b"parlor organization\0").chain_update(id).finalize();
        Self(i32::from(u16::from_be_bytes([hash[0], hash[1]]) >> 4))
    }

    /// Returns the bucket that an id contains.
    pub fn of_uuid(id: Uuid) -> Self {
        let bytes = id.as_bytes();
        Self(i32::from(u16::from_be_bytes([bytes[6], bytes[7]]) & 0xFFF))
    }

    pub fn number(self) -> i32 {
        self.0
    }

    /// Returns the id of this bucket with the time, the counter and the random bits of a UUID of version 7.
    ///
    /// The ids of one bucket have the order of the UUIDs that they are made of.
    pub fn uuid_from_v7(self, id: Uuid) -> Uuid {
        let bits = id.as_u128();
        let time = (bits >> 80) << 80;
        let counter = (bits >> 64) & 0xFFF;
        // The lowest 12 bits, which are random, make room for the counter.
        let random = (bits & ((1 << 62) - 1)) >> 12;
        self.uuid((time | (counter << 50) | random).to_be_bytes())
    }

    /// Returns the id of this bucket that is made of the hash of `parts`, and of no other list of parts.
    pub fn uuid_from_parts(self, parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Uuid {
        let mut hash = Sha256::new();
        for part in parts {
            let part = part.as_ref();
            // With its length, a part cannot be confused with two parts, or with a part of another one.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        self.uuid(bytes)
    }

    /// Writes the bucket, the version and the variant over the bits of an id.
    fn uuid(self, mut bytes: [u8; 16]) -> Uuid {
        let [.., high, low] = self.0.to_be_bytes();
        (bytes[6], bytes[7]) = (high, low);
        Builder::from_custom_bytes(bytes).into_uuid()
    }
}

impl From<Bucket> for i32 {
    fn from(bucket: Bucket) -> Self {
        bucket.0
    }
}

impl TryFrom<i32> for Bucket {
    type Error = BucketOutOfRange;

    fn try_from(number: i32) -> Result<Self, BucketOutOfRange> {
        Self::new(number).ok_or(BucketOutOfRange)
    }
}

/// Groups items by their bucket, for statements and transactions that have rows of one bucket only.
pub fn group_by_bucket<T>(
    items: impl IntoIterator<Item = T>,
    bucket_of: impl Fn(&T) -> Bucket,
) -> BTreeMap<Bucket, Vec<T>> {
    let mut groups: BTreeMap<Bucket, Vec<T>> = BTreeMap::new();
    for item in items {
        groups.entry(bucket_of(&item)).or_default().push(item);
    }
    groups
}

/// Returns whether a UUID is of the form that contains a bucket.
pub fn has_bucket(id: Uuid) -> bool {
    id.get_version_num() == UUID_VERSION && id.get_variant() == Variant::RFC4122
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_of_an_organization_never_changes() {
        for (organization, number) in [("demo", 1_417), ("acme", 1_313), ("org-1", 3_782), ("zoë", 94)] {
            assert_eq!(Bucket::of_organization(organization).number(), number, "{organization}");
        }
    }

    #[test]
    fn bucket_has_a_number_below_the_count() {
        for number in [0, 1, 4_095] {
            let bucket = Bucket::new(number).unwrap();
            assert_eq!(bucket.number(), number);
            assert_eq!(serde_json::from_str::<Bucket>(&serde_json::to_string(&bucket).unwrap()).unwrap(), bucket);
        }
        for number in [-1, 4_096, i32::MIN, i32::MAX] {
            assert_eq!(Bucket::new(number), None);
            assert!(serde_json::from_str::<Bucket>(&number.to_string()).is_err(), "{number}");
        }
    }

    #[test]
    fn items_of_one_bucket_are_one_group_in_their_order() {
        let bucket = |number| Bucket::new(number).unwrap();
        let groups = group_by_bucket([(7, 'a'), (3, 'b'), (7, 'c')], |(number, _)| bucket(*number));
        assert_eq!(
            groups.into_iter().collect::<Vec<_>>(),
            [(bucket(3), vec![(3, 'b')]), (bucket(7), vec![(7, 'a'), (7, 'c')])]
        );
    }

    #[test]
    fn uuid_of_time_keeps_time_counter_and_order() {
        let v7 = "019ac0de-1234-7fed-bedc-ba9876543210".parse().unwrap();
        let id = Bucket::new(0xABC).unwrap().uuid_from_v7(v7);
        // 0xFED, then the upper 50 of the 62 bits 0x3EDCBA9876543210.
        assert_eq!(id.to_string(), "019ac0de-1234-8abc-bfb7-edcba9876543");
        assert!(has_bucket(id) && !has_bucket(v7) && !has_bucket(Uuid::nil()));
        assert_eq!(Bucket::of_uuid(id).number(), 0xABC);
        let later = [
            "019ac0de-1234-7fed-bedc-ba9876544210",
            "019ac0de-1234-7fee-8000-000000000000",
            "019ac0de-1235-7000-8000-000000000000",
        ];
        let later = later.map(|v7| Bucket::new(0xABC).unwrap().uuid_from_v7(v7.parse().unwrap()));
        assert!(id < later[0] && later.is_sorted(), "{later:?}");
    }

    #[test]
    fn uuid_of_parts_differs_for_each_list_of_parts() {
        let bucket = Bucket::of_organization("demo");
        let lists: [&[&str]; 6] = [&[], &[""], &["ab"], &["a", "b"], &["b", "a"], &["ab", ""]];
        let mut ids: Vec<_> = lists.iter().map(|parts| bucket.uuid_from_parts(*parts)).collect();
        assert!(ids.iter().all(|id| has_bucket(*id) && Bucket::of_uuid(*id) == bucket));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), lists.len());
    }
}
