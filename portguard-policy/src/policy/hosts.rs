//! `hosts:`: on which hosts a file holds.

use wildmatch::WildMatch;

/// Whether a pattern of `hosts:` matches a host, compared without case.
///
/// A host is known by its short name (`web-1`) and, where it has a domain, by its full one (`web-1.example.com`).
/// A pattern may be either. The domain of a host that only says its short name is not known: then the first part of
/// a pattern has to match, unless that is `*` alone, which would be every host of every domain.
pub(super) fn matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_lowercase(), host.to_lowercase());
    let is = |pattern: &str, name: &str| WildMatch::new(pattern).matches(name);
    if is(&pattern, &host) {
        return true;
    }
    match (host.split_once('.'), pattern.split_once('.')) {
        (Some((short, _)), None) => is(&pattern, short),
        (None, Some((first, _))) => first != "*" && is(first, &host),
        _ => false,
    }
}

/// The full name of a host that `/etc/hosts` has under its short one; a name server is not asked.
pub(super) fn full_name(short: &str, etc_hosts: &str) -> Option<String> {
    let names = etc_hosts.lines().filter_map(|line| {
        let line = line.split('#').next()?;
        let names: Vec<&str> = line.split_whitespace().skip(1).collect();
        let is_short = |name: &&&str| name.eq_ignore_ascii_case(short);
        names.iter().find(is_short)?;
        let mut names = names.into_iter();
        names.find(|name| {
            let first = name.split_once('.').map(|(first, _)| first);
            first.is_some_and(|first| first.eq_ignore_ascii_case(short))
        })
    });
    names.map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_matches_without_case() {
        assert!(matches("WEB-?", "web-1") && matches("web-*", "Web-1.Example.COM"));
        assert!(!matches("web-?", "db-1") && !matches("eb-1", "web-1"));
    }

    #[test]
    fn host_matches_by_its_short_and_its_full_name() {
        for pattern in [
            "web-1",
            "web-1.example.com",
            "web-*.example.com",
            "*.example.com",
            "web*",
        ] {
            assert!(matches(pattern, "web-1.example.com"), "{pattern}");
        }
        for pattern in ["web-1.example.org", "*.example.org", "web", "web-1.example"] {
            assert!(!matches(pattern, "web-1.example.com"), "{pattern}");
        }
        for pattern in ["web-1", "web-1.example.com", "web-?.example.com"] {
            assert!(matches(pattern, "web-1"), "{pattern}");
        }
        for pattern in ["*.example.com", "db-1.example.com", "web.example.com"] {
            assert!(!matches(pattern, "web-1"), "{pattern}");
        }
    }

    #[test]
    fn full_name_is_that_of_etc_hosts() {
        let text =
            "127.0.0.1 localhost\n# 10.0.0.9 web-1.old\n127.0.1.1\tweb-1.example.com web-1 # us\n";
        assert_eq!(
            full_name("WEB-1", text).as_deref(),
            Some("web-1.example.com")
        );
        assert_eq!(full_name("web", text), None);
        assert_eq!(full_name("localhost", text), None);
    }
}
