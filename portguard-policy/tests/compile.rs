//! Compiled tables depend on the policy alone.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its own machinery fails"
)]

use portguard_policy::compile::{Tables, compile};
use portguard_policy::policy::{StaticNames, parse};
use zerocopy::IntoBytes as _;

/// A policy with an entry in each table.
const POLICY: &str = r#"
version: 1
rules:
- { name: a, action: allow, ports: [80], users: [1000], cgroups: ["/a/b*", /c] }
- { name: b, action: deny, groups: ["5-90"], units: [nginx.service] }
- { name: c, action: kernel, addresses: [127.0.0.0/8, "::1"] }
"#;

fn tables() -> Tables {
    let loaded = parse("p.yaml".as_ref(), POLICY, &StaticNames::default()).unwrap();
    compile(&loaded.policy).unwrap()
}

/// All tables as bytes, one after the other.
fn bytes(tables: &Tables) -> Vec<u8> {
    let mut bytes = tables.pages.as_bytes().to_vec();
    for entry in &tables.trie {
        bytes.extend_from_slice(entry.key.as_bytes());
        bytes.extend_from_slice(entry.node.as_bytes());
    }
    for (key, next) in &tables.names {
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(next.as_bytes());
    }
    for entry in &tables.addresses {
        bytes.extend_from_slice(entry.key.as_bytes());
        bytes.extend_from_slice([entry.prefix, entry.class].as_bytes());
    }
    for entry in &tables.groups {
        bytes.extend_from_slice(entry.key.as_bytes());
        bytes.extend_from_slice(entry.prefix.as_bytes());
        bytes.extend_from_slice(entry.rules.as_bytes());
    }
    bytes
}

#[test]
fn equal_policies_compile_to_equal_bytes() {
    let (one, other) = (tables(), tables());
    for len in [
        one.trie.len(),
        one.names.len(),
        one.addresses.len(),
        one.groups.len(),
    ] {
        assert_ne!(len, 0, "a table without entries shows nothing");
    }
    assert!(bytes(&one) == bytes(&other), "equal policies differ");
    assert_eq!(one.digest, other.digest);
}
