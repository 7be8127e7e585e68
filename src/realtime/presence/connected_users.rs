//! The users connected to one node, in buckets that nodes compare and announce separately.
//!
//! A node regularly publishes a hash of each bucket. A node that has another hash asks for the users of that bucket
//! only, so a difference costs a small message, however many users are connected.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::domain::users::UserKey;

/// The number of buckets: the values of a byte.
pub const BUCKET_COUNT: usize = 256;

/// Returns a hash of a user that is the same on all nodes.
///
/// Its highest byte is the user's bucket.
fn user_hash((organization, user): &UserKey) -> u64 {
    let hash =
        Sha256::new().chain_update(organization.as_str()).chain_update([0]).chain_update(user.as_str()).finalize();
    let (head, _) = hash.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*head)
}

/// Returns the bucket of a user.
pub fn bucket_of(user_key: &UserKey) -> u8 {
    user_hash(user_key).to_be_bytes()[0]
}

/// Returns the hash of each bucket of users: it does not depend on their order.
pub fn digest<'a>(users: impl Iterator<Item = &'a UserKey>) -> Vec<u64> {
    let mut buckets = vec![0; BUCKET_COUNT];
    for hash in users.map(user_hash) {
        buckets[usize::from(hash.to_be_bytes()[0])] ^= hash;
    }
    buckets
}

/// The users about whom another node has sent updates, by bucket.
#[derive(Debug)]
pub struct RemoteUsers {
    /// Each user with whether they are connected to the node, and the number of the change that says so. A user who
    /// disconnected is remembered, so that an older update does not connect them again.
    buckets: Vec<HashMap<UserKey, RemoteConnection>>,
}

/// The connection of a user to another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteConnection {
    pub is_connected: bool,
    /// The number of the change on that node.
    pub revision: u64,
}

impl Default for RemoteUsers {
    fn default() -> Self {
        Self { buckets: std::iter::repeat_with(HashMap::new).take(BUCKET_COUNT).collect() }
    }
}

impl RemoteUsers {
    /// Applies an update, and returns false if it is older than what is known.
    pub fn apply(&mut self, user_key: &UserKey, update: RemoteConnection) -> bool {
        let bucket = &mut self.buckets[usize::from(bucket_of(user_key))];
        let is_newer = bucket.get(user_key).is_none_or(|known| known.revision < update.revision);
        if is_newer {
            bucket.insert(user_key.clone(), update);
        }
        is_newer
    }

    /// Forgets a user.
    pub fn remove(&mut self, user_key: &UserKey) {
        self.buckets[usize::from(bucket_of(user_key))].remove(user_key);
    }

    /// Returns the users of a bucket who are connected by a change up to `revision`.
    pub fn connected_in(&self, bucket: u8, revision: u64) -> impl Iterator<Item = &UserKey> {
        let known = self.buckets[usize::from(bucket)].iter();
        known.filter(move |(_, known)| known.is_connected && known.revision <= revision).map(|(user_key, _)| user_key)
    }

    /// Returns all users who are connected.
    pub fn connected(&self) -> impl Iterator<Item = &UserKey> {
        self.buckets.iter().flatten().filter(|(_, known)| known.is_connected).map(|(user_key, _)| user_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: usize) -> UserKey {
        ("demo".parse().unwrap(), format!("user{number}").parse().unwrap())
    }

    #[test]
    fn digest_differs_in_the_bucket_of_a_missing_user_only() {
        let users: Vec<UserKey> = (0..1_000).map(user).collect();
        let (all, most) = (digest(users.iter()), digest(users[1..].iter()));
        let different: Vec<usize> = (0..BUCKET_COUNT).filter(|bucket| all[*bucket] != most[*bucket]).collect();
        assert_eq!(different, [usize::from(bucket_of(&users[0]))]);
        assert_eq!(digest(users.iter().rev()), all);
        // The same on every node and in every version.
        assert_eq!(user_hash(&user(1)), 0xa86d_91fb_71a9_eefe);
    }

    #[test]
    fn older_update_does_not_replace_a_newer_one() {
        let mut users = RemoteUsers::default();
        let connection = |is_connected, revision| RemoteConnection { is_connected, revision };
        assert!(users.apply(&user(1), connection(true, 3)));
        assert!(users.apply(&user(1), connection(false, 5)));
        assert!(!users.apply(&user(1), connection(true, 4)), "a late update");
        assert!(!users.apply(&user(1), connection(false, 5)), "a doubled update");
        assert_eq!(users.connected().count(), 0);
    }
}
