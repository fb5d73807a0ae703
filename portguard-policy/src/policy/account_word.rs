//! Words that are no names of users and groups on any machine.

use super::model::AccountKind;

/// Why a word can never be the name of a user or group, and what to write instead.
pub(super) fn never_a_name(name: &str, kind: AccountKind) -> Option<String> {
    let (word, words) = (kind.word(), kind.words());
    if let Some(other) = name.strip_prefix(['!', '~', '^']) {
        let rest = match other.is_empty() {
            true => String::new(),
            false => format!(" for `{other}`"),
        };
        return Some(format!(
            "a list cannot exclude a {word}: put a rule{rest} before this one"
        ));
    }
    if matches!(name, "*" | "all" | "any" | "everyone" | "ALL") {
        return Some(format!("omit `{words}` to match every {word}"));
    }
    let mut characters = name.chars();
    let odd = |character: char| {
        character.is_control() || matches!(character, ':' | '/' | ',' | '*' | '?' | '[' | ']')
    };
    if name.trim() != name || characters.any(odd) || !name.contains(char::is_alphabetic) {
        return Some(format!(
            "write a {word} name, an id or a range like \"1000-1999\""
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_no_account_can_have_are_not_names() {
        for word in [
            "",
            "!www-data",
            "~",
            "*",
            "all",
            "1000-",
            "a,b",
            "a:b",
            " a",
            "web*",
            "-1",
        ] {
            assert!(never_a_name(word, AccountKind::User).is_some(), "{word}");
        }
        for name in [
            "www-data",
            "_apt",
            "DOMAIN\\alice",
            "alice@example.com",
            "svc$",
            "domain users",
            "ä",
            "0day",
        ] {
            assert_eq!(never_a_name(name, AccountKind::Group), None, "{name}");
        }
    }
}
