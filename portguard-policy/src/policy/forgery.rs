//! Finds cgroup patterns that a user can satisfy by creating a cgroup.
//!
//! systemd delegates everything below `/user.slice/user-U.slice/user@U.service` to user U (`Delegate=` of
//! `user@.service`): a pattern that this path only begins to match depends on names that U chooses.

use super::model::{CgroupPattern, Component};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use wildmatch::WildMatch;

/// A user who can create a cgroup that `pattern` matches, and the delegated cgroup to create it in; `None` where
/// there is none, or where the rule is for that user only.
pub(super) fn find(
    pattern: &CgroupPattern,
    users: Option<&[RangeInclusive<u32>]>,
) -> Option<(u32, String)> {
    uids_in(pattern)
        .into_iter()
        .find(|uid| !is_only(users, *uid) && is_open_below(pattern, &delegated(*uid)))
        .map(|uid| (uid, format!("/{}", delegated(uid).join("/"))))
}

fn delegated(uid: u32) -> [String; 3] {
    [
        "user.slice".to_owned(),
        format!("user-{uid}.slice"),
        format!("user@{uid}.service"),
    ]
}

/// An ordinary user, and every number in the pattern itself.
fn uids_in(pattern: &CgroupPattern) -> BTreeSet<u32> {
    let names = pattern.0.iter().filter_map(|component| match component {
        Component::Name(name) => Some(name),
        Component::AnyDepth => None,
    });
    let numbers = names.flat_map(|name| name.split(|c: char| !c.is_ascii_digit()));
    let numbers = numbers.filter_map(|digits| digits.parse().ok());
    numbers.chain([1000]).collect()
}

fn is_only(users: Option<&[RangeInclusive<u32>]>, uid: u32) -> bool {
    users.is_some_and(|users| users.iter().all(|range| *range == (uid..=uid)))
}

/// Whether the pattern matches something below `path` and not `path` itself.
fn is_open_below(pattern: &CgroupPattern, path: &[String]) -> bool {
    let mut at = reached(pattern, BTreeSet::from([0]));
    for name in path {
        if at.contains(&pattern.0.len()) {
            return false;
        }
        let mut next = BTreeSet::new();
        for &i in &at {
            match pattern.0.get(i) {
                Some(Component::AnyDepth) => {
                    next.insert(i);
                }
                Some(Component::Name(glob)) if WildMatch::new(glob).matches(name) => {
                    next.insert(i + 1);
                }
                _ => {}
            }
        }
        at = reached(pattern, next);
    }
    !at.is_empty() && !at.contains(&pattern.0.len())
}

/// Adds the positions after each `**`, which may match nothing.
fn reached(pattern: &CgroupPattern, mut at: BTreeSet<usize>) -> BTreeSet<usize> {
    for i in 0..pattern.0.len() {
        if at.contains(&i) && pattern.0[i] == Component::AnyDepth {
            at.insert(i + 1);
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> CgroupPattern {
        let names = text.trim_start_matches('/').split('/');
        let component = |name: &str| match name {
            "**" => Component::AnyDepth,
            _ => Component::Name(name.to_owned()),
        };
        CgroupPattern(names.map(component).collect())
    }

    #[test]
    fn find_reports_patterns_that_a_delegated_cgroup_satisfies() {
        for forged in [
            "/**/nginx.service",
            "/user.slice/**/x",
            "/user.slice/user-1001.slice/user@1001.service/app.slice",
            "/*/*/*/nginx.service",
        ] {
            assert!(find(&pattern(forged), None).is_some(), "{forged}");
        }
        for safe in [
            "/system.slice/nginx.service",
            "/system.slice/**/worker",
            "/user.slice/user-1000.slice",
            "/user.slice/**",
            "/*.slice/nginx.service",
        ] {
            assert_eq!(find(&pattern(safe), None), None, "{safe}");
        }
    }

    #[test]
    fn find_ignores_rules_for_that_user_only() {
        let own = pattern("/user.slice/user-1001.slice/user@1001.service/app.slice");
        assert_eq!(find(&own, Some(&[1001..=1001])), None);
        assert_eq!(
            find(&own, Some(&[1002..=1002])).map(|found| found.0),
            Some(1001)
        );
    }
}
