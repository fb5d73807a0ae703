//! Offsets of structure members, from BTF.
//!
//! No crate fits: aya does not expose members, the `btf` crate copies every structure for every pointer to it, and
//! `btf-rs` is LGPL, which a static binary under MIT or Apache-2.0 cannot simply include. This reads one structure
//! at a time, by checked accesses only; damaged bytes are an error. Format: `Documentation/bpf/btf.rst`, Linux 7.2.

use crate::kernel::error::BtfError;
use std::path::Path;

/// Kinds of types, of `include/uapi/linux/btf.h`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
    pub(super) const LAST: u32 = ENUM64;
}

const MAGIC: u16 = 0xeb9f;
/// Modifiers followed before a loop is assumed.
const MAX_DEPTH: usize = 32;
/// The most anonymous structures searched for a member: more than any kernel nests, fewer than overflow the stack.
const MAX_SEARCHED: usize = 1024;

/// BTF, with the offset of each type.
pub struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Offset of each type's `struct btf_type`; id 0 is void.
    types: Vec<u32>,
    /// The ids of the structures, and of the functions. Linux 7.0 and later sort types by name
    /// (`tools/bpf/resolve_btfids`), so that a search of all types for some tens of structures takes seconds on a slow
    /// processor.
    structures: Vec<u32>,
    functions: Vec<u32>,
}

/// The words of a `struct btf_type`.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    info: u32,
    /// A size or another type's id.
    link: u32,
}

impl Type {
    const fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    const fn len(self) -> usize {
        (self.info & 0xffff) as usize
    }

    const fn has_bitfields(self) -> bool {
        self.info >> 31 == 1
    }
}

impl Btf {
    /// Reads the running kernel's.
    pub fn of_running_kernel() -> Result<Self, BtfError> {
        let path = Path::new("/sys/kernel/btf/vmlinux");
        let bytes = std::fs::read(path).map_err(|source| BtfError::Read {
            path: path.into(),
            source,
        })?;
        Self::parse(bytes)
    }

    /// Indexes BTF bytes of this machine's byte order.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let mut btf = Self {
            bytes,
            strings: 0,
            types: vec![0],
            structures: Vec::new(),
            functions: Vec::new(),
        };
        let magic = btf.bytes.get(..2).and_then(|b| b.try_into().ok());
        if magic.map(u16::from_ne_bytes) != Some(MAGIC) {
            return Err(BtfError::Damaged(
                "it does not start with BTF's magic number",
            ));
        }
        let header = btf.word(4)? as usize;
        check_size(btf.bytes.len())?;
        let section = |offset: u32| header.saturating_add(offset as usize);
        let mut at = section(btf.word(8)?);
        let end = at.saturating_add(btf.word(12)? as usize);
        btf.strings = section(btf.word(16)?);
        while at < end {
            let known = btf.read_type(at)?;
            let id = btf.types.len() as u32;
            match known.kind() {
                kind::STRUCT => btf.structures.push(id),
                kind::FUNC => btf.functions.push(id),
                _ => {}
            }
            btf.types.push(at as u32);
            at += 12 + trailing_bytes(known)?;
        }
        Ok(btf)
    }

    /// Offset in bytes of a member of a structure, anonymous ones included, by a dotted path as in C:
    /// `offset("sock", "__sk_common.skc_net.net")`.
    ///
    /// # Errors
    /// Where the structure or the member does not exist, or is a bit field.
    pub fn offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let bits = self.bit_offset(structure, path)?;
        if bits.is_multiple_of(8) {
            Ok(bits / 8)
        } else {
            Err(BtfError::Unknown(format!("{structure}.{path}")))
        }
    }

    /// Offset in bits of a member, which may be a bit field; otherwise as [`Btf::offset`].
    pub fn bit_offset(&self, structure: &str, path: &str) -> Result<u32, BtfError> {
        let unknown = || BtfError::Unknown(format!("{structure}.{path}"));
        let mut id = self
            .find(&self.structures, structure)?
            .ok_or_else(unknown)?;
        let mut bits = 0u32;
        for name in path.split('.') {
            let (offset, member) = self
                .member(id, name, &mut Vec::new())?
                .ok_or_else(unknown)?;
            bits = bits.checked_add(offset).ok_or_else(unknown)?;
            id = member;
        }
        Ok(bits)
    }

    /// Whether the kernel has a function of this name.
    pub fn has_function(&self, name: &str) -> Result<bool, BtfError> {
        Ok(self.find(&self.functions, name)?.is_some())
    }

    /// The first of these types with the name.
    fn find(&self, ids: &[u32], name: &str) -> Result<Option<u32>, BtfError> {
        for id in ids {
            if self.name_is(self.type_of(*id)?.name, name) {
                return Ok(Some(*id));
            }
        }
        Ok(None)
    }

    /// Bit offset and type of a member. Types in `searched` are not searched again: a shared anonymous member can be
    /// reached in exponentially many ways, and a damaged one forever.
    fn member(
        &self,
        id: u32,
        name: &str,
        searched: &mut Vec<usize>,
    ) -> Result<Option<(u32, u32)>, BtfError> {
        let known = self.without_modifiers(id)?;
        if searched.contains(&known.at) {
            return Ok(None);
        }
        if searched.len() == MAX_SEARCHED {
            return Err(BtfError::Damaged(
                "a structure has too many anonymous members",
            ));
        }
        searched.push(known.at);
        if !matches!(known.kind(), kind::STRUCT | kind::UNION) {
            return Ok(None);
        }
        for i in 0..known.len() {
            let at = known.at + 12 + 12 * i;
            let (member, id, raw) = (self.word(at)?, self.word(at + 4)?, self.word(at + 8)?);
            let bits = if known.has_bitfields() {
                raw & 0xff_ffff
            } else {
                raw
            };
            if self.name_is(member, name) {
                return Ok(Some((bits, id)));
            }
            if self.name_is(member, "")
                && let Some((inner, id)) = self.member(id, name, searched)?
            {
                return Ok(bits.checked_add(inner).map(|sum| (sum, id)));
            }
        }
        Ok(None)
    }

    fn without_modifiers(&self, mut id: u32) -> Result<Type, BtfError> {
        for _ in 0..MAX_DEPTH {
            let known = self.type_of(id)?;
            match known.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = known.link;
                }
                _ => return Ok(known),
            }
        }
        Err(BtfError::Damaged("types refer to each other in a loop"))
    }

    fn type_of(&self, id: u32) -> Result<Type, BtfError> {
        let at = self.types.get(id as usize).copied();
        let at = at.ok_or(BtfError::Damaged(
            "a type refers to one that does not exist",
        ))?;
        self.read_type(at as usize)
    }

    fn read_type(&self, at: usize) -> Result<Type, BtfError> {
        Ok(Type {
            at,
            name: self.word(at)?,
            info: self.word(at.saturating_add(4))?,
            link: self.word(at.saturating_add(8))?,
        })
    }

    fn word(&self, at: usize) -> Result<u32, BtfError> {
        let end = at.saturating_add(4);
        let bytes = self.bytes.get(at..end).and_then(|b| b.try_into().ok());
        bytes
            .map(u32::from_ne_bytes)
            .ok_or(BtfError::Damaged("it ends too early"))
    }

    fn name_is(&self, offset: u32, name: &str) -> bool {
        let start = self.strings.saturating_add(offset as usize);
        let rest = self.bytes.get(start..).unwrap_or_default();
        rest.strip_prefix(name.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// Offsets of types are kept in 32 bits.
fn check_size(bytes: usize) -> Result<(), BtfError> {
    match u32::try_from(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(BtfError::Damaged("it is larger than 4 GiB")),
    }
}

/// Bytes that follow the three words of a type.
fn trailing_bytes(known: Type) -> Result<usize, BtfError> {
    Ok(match known.kind() {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * known.len(),
        kind::ENUM | kind::FUNC_PROTO => 8 * known.len(),
        0 => return Err(BtfError::Damaged("a type has kind 0")),
        other if other > kind::LAST => {
            return Err(BtfError::Damaged(
                "a type has a kind that this version of portguard does not know",
            ));
        }
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// BTF of these types, with the strings "" (0) and "s" (1).
    fn btf_of(types: &[u32]) -> Vec<u8> {
        let length = 4 * types.len() as u32;
        let header = [u32::from(MAGIC) | 1 << 16, 24, 0, length, length, 3];
        let words = header.iter().chain(types);
        let words = words.flat_map(|word| word.to_ne_bytes());
        words.chain(*b"\0s\0").collect()
    }

    /// The error of looking up member `s` of member `s` of structure `s`.
    fn error_of(bytes: Vec<u8>) -> String {
        let offset = Btf::parse(bytes).and_then(|btf| btf.offset("s", "s.s"));
        offset.map_or_else(|error| error.to_string(), |offset| offset.to_string())
    }

    #[test]
    fn btf_parser_names_the_damage() {
        let of_member = |id| [1, kind::STRUCT << 24 | 1, 8, 1, id, 0];
        let constant = |id| [0, kind::CONST << 24, id];
        let with_loop = [&of_member(2)[..], &constant(3), &constant(2)].concat();
        let mut truncated = btf_of(&of_member(1));
        truncated.truncate(30);
        for (bytes, damage) in [
            (vec![0; 64], "it does not start with BTF's magic number"),
            (truncated, "it ends too early"),
            (btf_of(&[1, 0, 0]), "a type has kind 0"),
            (
                btf_of(&[1, 20 << 24, 0]),
                "a type has a kind that this version of portguard does not know",
            ),
            (
                btf_of(&of_member(9)),
                "a type refers to one that does not exist",
            ),
            (btf_of(&with_loop), "types refer to each other in a loop"),
            (
                doubling(MAX_SEARCHED as u32 + 1),
                "a structure has too many anonymous members",
            ),
        ] {
            assert_eq!(error_of(bytes), format!("BTF is damaged: {damage}"));
        }
        assert_eq!(
            check_size(1 << 32).map_err(|error| error.to_string()),
            Err("BTF is damaged: it is larger than 4 GiB".to_owned())
        );
    }

    /// BTF of structures of two anonymous members each, both of the next structure: the last can be reached from the
    /// first in 2^(n-1) ways.
    fn doubling(n: u32) -> Vec<u8> {
        let types: Vec<u32> = (1..=n)
            .flat_map(|id| [1, kind::STRUCT << 24 | 2, 8, 0, id + 1, 0, 0, id + 1, 32])
            .chain([0, kind::INT << 24, 4, 32])
            .collect();
        btf_of(&types)
    }

    #[test]
    fn btf_search_visits_each_structure_once() {
        let btf = Btf::parse(doubling(32)).map_err(|error| error.to_string());
        let offset = btf.map(|btf| {
            btf.offset("s", "missing")
                .map_err(|error| error.to_string())
        });
        let unknown = "the kernel's BTF has no s.missing";
        assert_eq!(offset, Ok(Err(unknown.to_owned())));
    }

    proptest! {
        #[test]
        fn btf_parser_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 24..400)) {
            bytes[..2].copy_from_slice(&MAGIC.to_ne_bytes());
            bytes[4..8].copy_from_slice(&24u32.to_ne_bytes());
            bytes[8..12].copy_from_slice(&0u32.to_ne_bytes());
            bytes[14..16].copy_from_slice(&[0, 0]);
            if let Ok(btf) = Btf::parse(bytes) {
                let _ = btf.offset("", "");
                let _ = btf.has_function("x");
            }
        }
    }
}
