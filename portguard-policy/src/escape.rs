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

/// The text that [`escape`] was given; `None` where it did not make this one, or the text was no UTF-8.
#[must_use]
pub fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let mut characters = escaped.chars();
        let character = match characters.next()? {
            '\\' => '\\',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'x' => {
                let (digits, after) = characters.as_str().split_at_checked(2)?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = after;
                continue;
            }
            'u' => {
                let (digits, after) = characters.as_str().strip_prefix('{')?.split_once('}')?;
                characters = after.chars();
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            _ => return None,
        };
        bytes.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = characters.as_str();
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8(bytes).ok()
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

    #[test]
    fn what_was_never_escaped_is_refused() {
        for text in [
            "\\",
            "\\x",
            "\\xg0",
            "\\q",
            "\\u{",
            "\\u{110000}",
            "\\u41",
            "\\xff",
        ] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn escapes_go_back(text in ".{0,64}") {
            prop_assert_eq!(unescape(&escape(text.as_bytes())), Some(text));
        }

        #[test]
        fn no_control_character_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(!escape(&bytes).chars().any(char::is_control));
        }
    }
}
