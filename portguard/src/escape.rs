//! Text that a process controls, made safe to print: no control byte ever reaches a terminal.

/// Escapes control characters (C0, DEL, C1), direction marks and bytes that are no UTF-8.
///
/// What remains is printable and goes back: `\` itself is escaped where anything else is.
#[must_use]
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || is_direction_mark(character) || character == '\\' {
                out.extend(character.escape_default());
            } else {
                out.push(character);
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

/// Characters that reorder the text around them: Unicode's `Bidi_Control`.
const fn is_direction_mark(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        assert_eq!(escape(b"\x1b[31mred\n"), "\\u{1b}[31mred\\n");
        assert_eq!(escape(b"a\xffb\\"), "a\\xffb\\\\");
        assert_eq!(escape("c\u{9b}1m".as_bytes()), "c\\u{9b}1m");
        assert_eq!(escape("\u{202e}x".as_bytes()), "\\u{202e}x");
        assert_eq!(escape("\u{61c}x".as_bytes()), "\\u{61c}x");
        assert_eq!(escape("grün".as_bytes()), "grün");
    }

    proptest! {
        #[test]
        fn no_control_character_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!escape(&bytes).chars().any(char::is_control));
        }
    }
}
