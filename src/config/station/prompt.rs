//! Texts that become part of a prompt.
//!
//! The model's control tags must not come from a file: a tag inside a text could end a message or
//! begin another role. The engine refuses them again when it puts a prompt together.

use super::super::reader::Reader;

/// Longest text, in characters: about a thousand tokens.
const TEXT_MAX: usize = 4000;

/// Where a picture stands in a question.
const PICTURE: &str = "<image>";

/// Longest tag that is looked for, in bytes.
const TAG_MAX: usize = 32;

/// Reads `prompt`: the question's text. `shown` is how many pictures it is about, if that is known.
pub fn read_question(
    table: &mut Reader<'_>,
    shown: Option<usize>,
    default: &str,
) -> Option<String> {
    let Some(text) = table.text("prompt", TEXT_MAX) else { return Some(default.to_owned()) };
    let places = text.get_ref().matches(PICTURE).count();
    if let Some(shown) = shown
        && places != 0
        && places != shown
    {
        let title = format!("`prompt` has {places} {PICTURE} for {shown} shown region(s)");
        let remedy =
            format!("write {PICTURE} once for each region, or never: then pictures stand first");
        table.error(text.span(), title, remedy);
        return None;
    }
    refuse_tag(table, "prompt", text)
}

/// Reads a text in which no picture can stand.
pub fn read_plain(table: &mut Reader<'_>, key: &'static str) -> Option<String> {
    let text = table.text(key, TEXT_MAX)?;
    if text.get_ref().contains(PICTURE) {
        let title = format!("`{key}` holds {PICTURE}");
        table.error(text.span(), title, "a picture can stand in `prompt` only; remove it here");
        return None;
    }
    refuse_tag(table, key, text)
}

fn refuse_tag(table: &Reader<'_>, key: &str, text: toml::Spanned<String>) -> Option<String> {
    if let Some(tag) = control_tag(text.get_ref()) {
        let title = format!("`{key}` holds {tag}, which controls the model");
        table.error(
            text.span(),
            title,
            "remove it; where messages begin and end is not for a text",
        );
        return None;
    }
    Some(text.into_inner())
}

/// The first control tag of `text`. An opening `<|` counts even where nothing closes it: what
/// follows in the prompt might.
fn control_tag(text: &str) -> Option<&str> {
    let words = ["<s>", "</s>", "<unk>", "<pad>"].iter().filter_map(|word| {
        let at = text.find(word)?;
        Some(&text[at..at + word.len()])
    });
    let opened = text.find("<|").map(|at| {
        let tail = &text[at..];
        match tail.find("|>") {
            Some(end) if end + 2 <= TAG_MAX => &tail[..end + 2],
            _ => "<|",
        }
    });
    opened.into_iter().chain(words).next()
}

#[cfg(test)]
mod tests {
    use super::control_tag;

    #[test]
    fn tags_are_found_and_plain_angles_are_not() {
        assert_eq!(control_tag("a <|end|> b"), Some("<|end|>"));
        assert_eq!(control_tag("a <|image_2|>"), Some("<|image_2|>"));
        assert_eq!(control_tag("is a <| b?"), Some("<|"));
        assert_eq!(control_tag("the end</s>"), Some("</s>"));
        for plain in ["a < b | c > d", "<image>", "<b>bold</b>", "|>", "x <y> z"] {
            assert_eq!(control_tag(plain), None, "{plain}");
        }
    }
}
