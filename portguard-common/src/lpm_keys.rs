//! Keys of the longest-prefix tables: the networks and the groups that a policy names.
//!
//! Both are `BPF_MAP_TYPE_LPM_TRIE`, where the entry with the longest matching prefix wins: the compiler
//! gives each entry what the shorter ones that contain it have, too. The generation comes first, so that one
//! map serves the old and the new policy at once.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of an address: its value is the address class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddressKey {
    /// Generation and family, never part of a shorter prefix: see [`AddressKey::space`].
    pub space: u32,
    /// The address as on the wire; of IPv4 the first four bytes, the others zero.
    pub address: [u32; 4],
}

impl AddressKey {
    /// Bits before the address.
    pub const SPACE_BITS: u32 = 32;
    /// Bits of a key to look up.
    pub const BITS: u32 = Self::SPACE_BITS + 128;

    /// The key of an address in a policy, given as its words in memory: of IPv4 only the first counts. An
    /// IPv4-mapped address has the key of its IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn new(generation: u64, inet6: bool, words: [u32; 4]) -> Self {
        let mapped = words[0] == 0 && words[1] == 0 && words[2] == 0xffff_u32.to_be();
        if inet6 && !mapped {
            return Self {
                space: Self::space(generation, true),
                address: words,
            };
        }
        Self {
            space: Self::space(generation, false),
            address: [if inet6 { words[3] } else { words[0] }, 0, 0, 0],
        }
    }

    /// The addresses of one family in one policy.
    #[inline(always)]
    #[must_use]
    pub const fn space(generation: u64, inet6: bool) -> u32 {
        (generation as u32) << 1 | inet6 as u32
    }

    /// The same key in the policy of this generation.
    #[must_use]
    pub const fn with_generation(self, generation: u16) -> Self {
        Self {
            space: Self::space(generation as u64, self.space & 1 != 0),
            ..self
        }
    }

    /// The generation of the key's policy.
    #[must_use]
    pub const fn generation(&self) -> u16 {
        (self.space >> 1) as u16
    }

    /// Whether this is a wildcard address.
    #[inline(always)]
    #[must_use]
    pub const fn is_wildcard(&self) -> bool {
        let [a, b, c, d] = self.address;
        a | b | c | d == 0
    }
}

/// Key of a gid: its value is the vector of the rules that name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GroupKey {
    /// Generation.
    pub space: u32,
    /// The gid, big-endian.
    pub gid: u32,
}

impl GroupKey {
    /// Bits before the gid.
    pub const SPACE_BITS: u32 = 32;
    /// Bits of a key to look up.
    pub const BITS: u32 = Self::SPACE_BITS + 32;

    /// The key of a gid in host byte order.
    #[inline(always)]
    #[must_use]
    pub const fn new(generation: u64, gid: u32) -> Self {
        Self {
            space: generation as u32,
            gid: gid.to_be(),
        }
    }

    /// The same key in the policy of this generation.
    #[must_use]
    pub const fn with_generation(self, generation: u16) -> Self {
        Self {
            space: generation as u32,
            ..self
        }
    }

    /// The generation of the key's policy.
    #[must_use]
    pub const fn generation(&self) -> u16 {
        self.space as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_key_changes_its_generation_alone() {
        for inet6 in [false, true] {
            let key = AddressKey::new(1, inet6, [1, 2, 3, 4]);
            for generation in [0, 2, u16::MAX] {
                let other = key.with_generation(generation);
                assert_eq!(
                    other,
                    AddressKey::new(u64::from(generation), inet6, [1, 2, 3, 4])
                );
                assert_eq!(other.generation(), generation);
            }
        }
    }

    #[test]
    fn address_key_of_a_mapped_address_is_that_of_ipv4() {
        let mapped = AddressKey::new(1, true, [0, 0, 0xffff_u32.to_be(), 7]);
        assert_eq!(mapped, AddressKey::new(1, false, [7, 0, 0, 0]));
    }

    #[test]
    fn group_key_changes_its_generation_alone() {
        let key = GroupKey::new(1, 1000);
        assert_eq!(
            key.with_generation(u16::MAX),
            GroupKey::new(u64::from(u16::MAX), 1000)
        );
        assert_eq!(key.with_generation(u16::MAX).generation(), u16::MAX);
        assert_eq!(key.generation(), 1);
    }
}
