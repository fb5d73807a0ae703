//! Writes what each fuzz target begins with.
//!
//! Made from the structures and policies of now, so that no seed in the repository grows stale.

use portguard::kernel::{Btf, Offsets, parse_record};
use portguard_common::{CgroupRecord, Event, EventFlags, ExecutableRecord, RecordKind, Verdict};
use std::collections::BTreeMap;
use std::path::Path;
use zerocopy::{FromZeros, IntoBytes};

/// Policies, each with what is wrong in it: the tests of the policy reader.
const MESSAGES: &str = include_str!("../../portguard-policy/tests/policy/messages.txt");

/// Writes `directory`/TARGET/*; some are the policies of the directory `shipped`.
///
/// # Errors
/// Where a file cannot be read or written.
pub fn write_all(directory: &Path, shipped: &Path) -> anyhow::Result<()> {
    policies(&directory.join("policy"), shipped)?;
    events(&directory.join("event"))?;
    btf(&directory.join("btf"))
}

fn write(directory: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    Ok(std::fs::write(directory.join(name), bytes)?)
}

/// The shipped policies and those of the tests.
fn policies(directory: &Path, shipped: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(shipped)? {
        let path = entry?.path();
        if let Some(name) = path.file_name() {
            write(directory, &name.to_string_lossy(), &std::fs::read(&path)?)?;
        }
    }
    for (i, block) in MESSAGES.split("\n====\n").enumerate() {
        let yaml = block.split("\n----\n").next().unwrap_or_default();
        write(directory, &format!("message-{i}"), yaml.as_bytes())?;
    }
    Ok(())
}

/// A record behind its length, as the target reads it.
fn framed(record: &[u8]) -> anyhow::Result<Vec<u8>> {
    if parse_record(record).is_none() {
        anyhow::bail!("a seed is no record");
    }
    let mut bytes = u16::try_from(record.len())?.to_le_bytes().to_vec();
    bytes.extend_from_slice(record);
    Ok(bytes)
}

fn events(directory: &Path) -> anyhow::Result<()> {
    let mut event = Event::new_zeroed();
    event.kind = RecordKind::Decision as u32;
    event.time = 1_000_000_000;
    event.cgroup_id = 7;
    event.port = 80;
    event.verdict = Verdict::Deny as u8;
    event.flags = EventFlags::ENFORCED;
    event.executable = 9;
    event.comm[..5].copy_from_slice(b"nginx");
    let decision = framed(event.as_bytes())?;
    let mut cgroup = CgroupRecord::new_zeroed();
    cgroup.kind = RecordKind::Cgroup as u32;
    cgroup.depth = 2;
    cgroup.cgroup_id = 7;
    let names = b"system.slice\0nginx.service\0";
    cgroup.text[..names.len()].copy_from_slice(names);
    cgroup.len = names.len() as u64;
    let cgroup = framed(cgroup.as_bytes())?;
    let mut program = ExecutableRecord::new_zeroed();
    program.kind = RecordKind::Executable as u32;
    program.id = 9;
    program.names = 3;
    let names = b"usr\0sbin\0nginx\0";
    program.text[..names.len()].copy_from_slice(names);
    program.len = names.len() as u64;
    let program = framed(program.as_bytes())?;
    write(
        directory,
        "program",
        &[program.clone(), decision.clone()].concat(),
    )?;
    write(directory, "decision", &decision)?;
    write(directory, "cgroup", &cgroup)?;
    write(directory, "both", &[cgroup, decision].concat())
}

/// The structures of a BTF, each with its members and the structure that a member is.
type Structures = BTreeMap<String, Vec<(String, Option<String>)>>;

/// The structures that portguard asks for; one of a member is named by the path to it. A member of
/// `task_struct` is in an anonymous structure, as some are in the kernel.
fn structures() -> Structures {
    let mut structures = Structures::new();
    for (structure, path) in Offsets::members() {
        let mut of = structure.to_owned();
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let inner = names.peek().map(|_| format!("{of}.{name}"));
            let members = structures.entry(of).or_default();
            match members.iter_mut().find(|(member, _)| member == name) {
                Some((_, known)) => *known = known.take().or_else(|| inner.clone()),
                None => members.push((name.to_owned(), inner.clone())),
            }
            of = inner.unwrap_or_default();
        }
    }
    let task = structures.entry("task_struct".into()).or_default();
    let inside = task.split_off(1);
    task.push((String::new(), Some(String::new())));
    structures.insert(String::new(), inside);
    structures
}

fn btf(directory: &Path) -> anyhow::Result<()> {
    let bytes = small_btf(&structures());
    Offsets::from_btf(&Btf::parse(bytes.clone())?)?;
    write(directory, "every-offset", &bytes)
}

/// BTF of `structures`: type 1 is an `int`, type 2 a `typedef` of the first structure, which is the
/// anonymous one; the others follow. A member without a name has the type 2.
fn small_btf(structures: &Structures) -> Vec<u8> {
    const FIRST: u32 = 3;
    let mut strings = vec![0];
    let mut text = |name: &str| {
        if name.is_empty() {
            return 0;
        }
        let at = strings.len() as u32;
        strings.extend_from_slice(name.as_bytes());
        strings.push(0);
        at
    };
    let mut words = vec![text("int"), 1 << 24, 4, 32];
    words.extend([text("anonymous_t"), 8 << 24, FIRST]);
    for (name, members) in structures {
        let size = 8 * members.len() as u32;
        words.extend([text(name), 4 << 24 | members.len() as u32, size]);
        for (i, (member, of)) in members.iter().enumerate() {
            let place = structures.keys().position(|name| Some(name) == of.as_ref());
            let id = match place {
                None => 1,
                Some(0) => 2,
                Some(place) => FIRST + place as u32,
            };
            words.extend([text(member), id, 64 * i as u32]);
        }
    }
    // A function, named as the target asks.
    words.extend([text("f"), 12 << 24, 0]);
    let types = 4 * words.len() as u32;
    // Magic number, version 1 and flags; then the header's length and both sections.
    let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    let header = [24, 0, types, types, strings.len() as u32];
    for word in header.iter().chain(&words) {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(strings);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_is_in_the_seed() -> anyhow::Result<()> {
        let btf = Btf::parse(small_btf(&structures()))?;
        Offsets::from_btf(&btf)?;
        let flags = btf.offset("task_struct", "flags")?;
        assert!(flags > 0, "flags are in the anonymous structure");
        Ok(())
    }
}
