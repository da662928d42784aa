//! Texts that become part of a prompt.
//!
//! The model's control tags must not come from a file: a tag inside a text could end a message or
//! begin another role. The engine refuses them again when it puts a prompt together.

use super::super::reader::Reader;
use crate::roi;

/// Longest text, in characters: about a thousand tokens.
const TEXT_MAX: usize = 4000;

/// Where a picture stands in a question.
const PICTURE: &str = "<image>";

/// Longest tag that is looked for, in bytes.
const TAG_MAX: usize = 32;

/// Reads `prompt`: the question's text. `shown` is how many pictures a prompt holds, if that is known.
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
        let title = format!("`prompt` has {places} {PICTURE} for {shown} picture(s)");
        let remedy = format!(
            "write {PICTURE} once for each (a good part, then the regions or tiles), or never: then \
                     pictures stand first"
        );
        table.error(text.span(), title, remedy);
        return None;
    }
    refuse_tag(table, "prompt", text)
}

/// Says which picture is which, where a prompt shows several and its text does not place them. The
/// tiles of a region go by its name, as the text is the same for each of them.
pub fn refer(text: String, looks: &[Vec<String>], has_golden: bool) -> String {
    let look = looks.first().map_or(&[][..], Vec::as_slice);
    if text.contains(PICTURE) || look.len() + usize::from(has_golden) < 2 {
        return text;
    }
    let golden = has_golden.then(|| format!("Picture 1, a good part for comparison: {PICTURE}\n"));
    let named = look.iter().enumerate().map(|(at, name)| {
        let number = at + 1 + usize::from(has_golden);
        let name = if looks.len() > 1 { roi::tiled_region(name) } else { name };
        let what = if has_golden { "the part to inspect, region" } else { "region" };
        format!("Picture {number}, {what} \"{name}\": {PICTURE}\n")
    });
    let places: String = golden.into_iter().chain(named).collect();
    places + &text
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
    fn several_pictures_are_named_unless_the_text_places_them() {
        let refer = |text: &str, looks: &[&[&str]], golden| {
            let names = |look: &&[&str]| look.iter().map(|name| (*name).to_owned()).collect();
            let looks: Vec<Vec<String>> = looks.iter().map(names).collect();
            super::refer(text.to_owned(), &looks, golden)
        };
        assert_eq!(refer("Why?", &[&["label"]], false), "Why?");
        assert_eq!(
            refer("Why?", &[&["label", "seal"]], false),
            "Picture 1, region \"label\": <image>\nPicture 2, region \"seal\": <image>\nWhy?"
        );
        assert_eq!(
            refer("Why?", &[&["board.1"], &["board.2"]], true),
            "Picture 1, a good part for comparison: <image>\n\
             Picture 2, the part to inspect, region \"board\": <image>\nWhy?"
        );
        let placed = "This <image> or that <image>?";
        assert_eq!(refer(placed, &[&["label", "seal"]], false), placed);
    }

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
