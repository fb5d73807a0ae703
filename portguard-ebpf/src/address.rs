//! The address class of a bind.

use crate::maps::ADDRESSES;
use aya_ebpf::btf_maps::lpm_trie::Key;
use portguard_common::AddressKey;

/// The address of a bind, its bytes as in memory.
#[derive(Clone, Copy)]
pub struct BindAddress {
    /// 1 for an IPv6 address.
    pub inet6: u64,
    /// 1 where an IPv6 wildcard takes IPv4 too: the socket is not `IPV6_V6ONLY`.
    pub dual_stack: u64,
    /// The first eight bytes; of IPv4 the address, and zeros.
    pub high: u64,
    /// The last eight bytes.
    pub low: u64,
}

impl BindAddress {
    /// In place of an address that no rule needs.
    pub const UNUSED: Self = Self {
        inet6: 0,
        dual_stack: 0,
        high: 0,
        low: 0,
    };

    /// Family and `dual_stack` as two bits.
    #[inline(always)]
    pub fn kind(self) -> u64 {
        self.inet6 | self.dual_stack << 1
    }

    /// From [`BindAddress::kind`] and the address.
    #[inline(always)]
    pub fn unpack(kind: u64, high: u64, low: u64) -> Self {
        Self {
            inet6: kind & 1,
            dual_stack: kind >> 1 & 1,
            high,
            low,
        }
    }

    /// The class of the address, and that of the other address which the bind takes: `0.0.0.0` where `::` takes
    /// IPv4 too, else the same class again.
    #[inline(always)]
    pub fn classes(self, generation: u64) -> (u32, u32) {
        let classes = portguard_address_classes(generation, self.kind(), self.high, self.low);
        (classes as u32, (classes >> 32) as u32)
    }
}

/// Global to the verifier, which checks it once and not at each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn portguard_address_classes(generation: u64, kind: u64, high: u64, low: u64) -> u64 {
    let words = [
        high as u32,
        (high >> 32) as u32,
        low as u32,
        (low >> 32) as u32,
    ];
    let inet6 = kind & 1 != 0;
    let key = AddressKey::new(generation, inet6, words);
    let class = class(key);
    if kind == 3 && high | low == 0 {
        return class | class_of_any4(generation) << 32;
    }
    class | class << 32
}

#[inline(always)]
fn class_of_any4(generation: u64) -> u64 {
    class(AddressKey::new(generation, false, [0; 4]))
}

#[inline(always)]
fn class(key: AddressKey) -> u64 {
    let key = Key::new(AddressKey::BITS, key);
    ADDRESSES.get(&key).map_or(0, |class| u64::from(*class))
}
