//! Cgroup patterns that a user can satisfy by making a cgroup of his own.
//!
//! systemd hands user U everything below `/user.slice/user-U.slice/user@U.service` (`Delegate=` of
//! `user@.service`): a pattern that is not decided by then is decided by names that U chooses.

use super::model::{CgroupPattern, Component};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use wildmatch::WildMatch;

/// A user who can make a cgroup that `pattern` matches, and the delegated cgroup that he can make it in;
/// `None` where there is none, or where the rule is for that user alone.
pub(super) fn of(
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

/// An ordinary user, and every number that the pattern itself names.
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
                // A name of ours has none of the other wildcards.
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

/// With the positions behind each `**`, which may stand for nothing.
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
    fn what_a_user_can_make_is_found() {
        for forged in [
            "/**/nginx.service",
            "/user.slice/**/x",
            "/user.slice/user-1001.slice/user@1001.service/app.slice",
            "/*/*/*/nginx.service",
        ] {
            assert!(of(&pattern(forged), None).is_some(), "{forged}");
        }
        for safe in [
            "/system.slice/nginx.service",
            "/system.slice/**/worker",
            "/user.slice/user-1000.slice",
            "/user.slice/**",
            "/*.slice/nginx.service",
        ] {
            assert_eq!(of(&pattern(safe), None), None, "{safe}");
        }
    }

    #[test]
    fn a_rule_for_that_user_alone_is_his_own() {
        let own = pattern("/user.slice/user-1001.slice/user@1001.service/app.slice");
        assert_eq!(of(&own, Some(&[1001..=1001])), None);
        assert_eq!(
            of(&own, Some(&[1002..=1002])).map(|found| found.0),
            Some(1001)
        );
    }
}
