//! Hints about values that are written as other tools write them. A hint that is followed must not lead to the
//! next error, nor to a policy that means the contrary.

/// What an entry would exclude: a policy excludes nothing, and `x` in place of `!x` is its contrary.
pub(super) fn negated(text: &str) -> Option<&str> {
    text.strip_prefix('!').map(str::trim)
}

/// A word for everything, which no list has.
fn is_everything(text: &str) -> bool {
    matches!(text, "*" | "all" | "any" | "ALL" | "ANY" | "everyone")
}

/// What to write for everything under a key.
fn everything(key: &str) -> String {
    match key {
        "protect" => "for all ports write `[\"1-65535\"]`".to_owned(),
        "hosts" => "omit `hosts`: the file then holds on every host".to_owned(),
        _ => format!("omit `{key}`: the rule then matches all of them"),
    }
}

/// The list that was meant by a value which is none.
pub(super) fn list_of(key: &str, text: &str) -> String {
    if is_everything(text) {
        return everything(key);
    }
    let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
    let parts: Vec<&str> = parts.collect();
    let numbers = parts
        .iter()
        .all(|part| part.starts_with(|c: char| c.is_ascii_digit()));
    if matches!(key, "protect" | "ports") && !numbers {
        return "expected a list like `[80, \"8000-8010\"]`".to_owned();
    }
    let quoted = parts
        .iter()
        .map(|part| match part.contains(['*', ':', '[', '&', '!']) {
            true => format!("\"{part}\""),
            false => (*part).to_owned(),
        });
    format!("write `[{}]`", quoted.collect::<Vec<_>>().join(", "))
}

/// Why a text cannot be an entry of a list, and what to write; users and groups are checked as names.
pub(super) fn no_entry(key: &str, text: &str) -> Option<(String, String)> {
    let is_account = matches!(key, "users" | "groups");
    if let Some(excluded) = negated(text).filter(|_| !is_account) {
        let help = match key {
            "protect" | "hosts" => "list only what is meant".to_owned(),
            _ => format!("put a rule for `{excluded}` before this one"),
        };
        return Some((format!("`{text}`: a list cannot exclude an entry"), help));
    }
    let words = matches!(key, "ports" | "protect" | "protocols" | "addresses");
    (words && is_everything(text)).then(|| {
        (
            format!("`{text}` is not an entry of `{key}`"),
            everything(key),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_for_everything_is_valid_or_leaves_the_key_out() {
        assert_eq!(
            list_of("protect", "all"),
            "for all ports write `[\"1-65535\"]`"
        );
        assert_eq!(
            list_of("protocols", "any"),
            "omit `protocols`: the rule then matches all of them"
        );
        assert!(no_entry("ports", "*").is_some() && no_entry("units", "*").is_none());
    }

    #[test]
    fn hint_for_a_list_splits_its_entries() {
        assert_eq!(list_of("ports", "80,443"), "write `[80, 443]`");
        assert_eq!(list_of("users", "www-data"), "write `[www-data]`");
        assert_eq!(list_of("hosts", "web-*"), "write `[\"web-*\"]`");
        assert_eq!(
            list_of("ports", "http"),
            "expected a list like `[80, \"8000-8010\"]`"
        );
    }

    #[test]
    fn entry_that_excludes_is_not_the_entry() {
        let (problem, help) = no_entry("protocols", "!tcp").unwrap_or_default();
        assert_eq!(problem, "`!tcp`: a list cannot exclude an entry");
        assert_eq!(help, "put a rule for `tcp` before this one");
    }
}
