//! What is wrong with a configuration, and how it is printed: the file, the line, an excerpt, and
//! what to do about it.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Level, Origin, Renderer, Snippet};

use super::file::Source;

/// Most problems that are printed in full; the count tells of the rest.
const PRINTED_MAX: usize = 100;

/// Longest title or remedy, in characters: both may quote what a person wrote.
const WORDS_MAX: usize = 400;

/// Longest line of which an excerpt is printed, in bytes.
const EXCERPT_MAX: usize = 400;

/// A piece of a file.
#[derive(Clone, Debug)]
pub struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    /// Bytes `span` of `source`, cut to its first line: a table or a long text is shown by its
    /// beginning.
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Place {
        let line = source.line_range(span.start);
        let mut start = span.start.min(line.end);
        let mut end = span.end.clamp(start, line.end);
        // A span that came from elsewhere could split a character.
        while !source.text().is_char_boundary(start) {
            start -= 1;
        }
        while !source.text().is_char_boundary(end) {
            end += 1;
        }
        Place { source: source.clone(), span: start..end }
    }

    fn position(&self) -> (usize, usize) {
        self.source.position(self.span.start)
    }
}

/// How grave a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The program will not start with it.
    Error,
    /// The program starts; a person may have meant something else.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Problem {
    severity: Severity,
    title: String,
    place: Option<Place>,
    earlier: Option<(Place, &'static str)>,
    remedy: String,
}

impl Problem {
    /// Something that forbids the start.
    pub fn error(title: impl Into<String>) -> Problem {
        Problem {
            severity: Severity::Error,
            title: shorten(title.into()),
            place: None,
            earlier: None,
            remedy: String::new(),
        }
    }

    /// Something that a person should know.
    pub fn warning(title: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(title) }
    }

    /// Says where.
    pub fn at(mut self, place: Place) -> Problem {
        self.place = Some(place);
        self
    }

    /// Shows a second place, with a word on it: where the first of two equal names stands.
    pub fn earlier(mut self, place: Place, label: &'static str) -> Problem {
        self.earlier = Some((place, label));
        self
    }

    /// Says what to do.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Problem {
        self.remedy = shorten(remedy.into());
        self
    }

    /// How grave it is.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What is wrong, in one sentence.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What to do about it.
    pub fn help(&self) -> &str {
        &self.remedy
    }

    /// The file, unless the problem is that there is none.
    pub fn file(&self) -> Option<&Path> {
        self.place.as_ref().map(|place| place.source.path())
    }

    /// The line, from 1.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.position().0)
    }

    /// The column, from 1, in characters.
    pub fn column(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.position().1)
    }

    fn render(&self, renderer: &Renderer) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(self.title.as_str());
        let mut group = annotate_snippets::Group::with_title(title);
        let places = [
            self.place.as_ref().map(|place| (place, AnnotationKind::Primary, "")),
            self.earlier.as_ref().map(|(place, word)| (place, AnnotationKind::Context, *word)),
        ];
        for (place, kind, label) in places.into_iter().flatten() {
            group = show(group, place, kind, label);
        }
        if !self.remedy.is_empty() {
            group = group.element(Level::HELP.message(self.remedy.as_str()));
        }
        renderer.render(&[group])
    }
}

/// Everything that is wrong, in the order of the files and their lines.
#[derive(Clone, Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Takes `problems` as they are.
    pub fn new(problems: Vec<Problem>) -> Problems {
        Problems(problems)
    }

    /// Each problem.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them forbid the start.
    pub fn errors(&self) -> usize {
        self.0.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as text, with terminal colours if `colour`; an empty line follows each.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let shown = self.0.iter().take(PRINTED_MAX);
        let mut text: String =
            shown.map(|problem| format!("{}\n\n", problem.render(&renderer))).collect();
        if self.0.len() > PRINTED_MAX {
            text.push_str(&format!("… and {} more\n", self.0.len() - PRINTED_MAX));
        }
        text
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// Adds the line that holds `place`, or only its address where the line is too long to print.
fn show<'p>(
    group: annotate_snippets::Group<'p>,
    place: &'p Place,
    kind: AnnotationKind,
    label: &'static str,
) -> annotate_snippets::Group<'p> {
    let path = place.source.path().display().to_string();
    let (line, column) = place.position();
    let range = place.source.line_range(place.span.start);
    if range.len() > EXCERPT_MAX {
        return group.element(Origin::path(path).line(line).char_column(column));
    }
    // Only the one line is given away: the excerpt costs the same in a file of any length.
    let mark = kind.span(place.span.start - range.start..place.span.end - range.start);
    let mark = if label.is_empty() { mark } else { mark.label(label) };
    let snippet: Snippet<'p, Annotation<'p>> =
        Snippet::source(&place.source.text()[range]).path(path).line_start(line).annotation(mark);
    group.element(snippet)
}

fn shorten(mut words: String) -> String {
    if let Some((cut, _)) = words.char_indices().nth(WORDS_MAX) {
        words.truncate(cut);
        words.push('…');
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source::new("a.toml", text.to_owned()))
    }

    #[test]
    fn a_problem_shows_its_line_and_its_remedy() {
        let source = source("x = 1\ntemprature = 2\n");
        let problem = Problem::error("unknown key `temprature`")
            .at(Place::new(&source, 6..16))
            .remedy("did you mean `temperature`?");
        let text = Problems::new(vec![problem]).to_string();
        let expected = "\
error: unknown key `temprature`
 --> a.toml:2:1
  |
2 | temprature = 2
  | ^^^^^^^^^^
  |
  = help: did you mean `temperature`?

";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_span_beyond_its_line_or_the_text_is_cut() {
        let source = source("a = \"\"\"\nüü\"\"\"\n");
        for span in [0..usize::MAX, 9..10, 500..600, 5..5] {
            let problem = Problem::error("x").at(Place::new(&source, span));
            assert!(Problems::new(vec![problem]).to_string().starts_with("error: x"));
        }
    }

    #[test]
    fn a_very_long_line_is_named_but_not_printed() {
        let source = source(&"x".repeat(100_000));
        let problem = Problem::error("long").at(Place::new(&source, 70_000..70_001));
        let text = Problems::new(vec![problem]).to_string();
        assert!(text.contains("a.toml:1:70001") && text.len() < 200, "{text}");
    }
}
