//! The target as a PDF: vectors, so that no printer's raster comes between.

use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str};

use super::Drawing;

/// PDF counts in points, 72 to the inch.
const POINTS_A_MM: f64 = 72.0 / 25.4;

/// The drawing as the bytes of a PDF of one page. Words are set in Helvetica, which every reader has.
pub fn write(drawing: &Drawing) -> Vec<u8> {
    let [catalog, tree, page_id, font, contents] = [1, 2, 3, 4, 5].map(Ref::new);
    let points = |mm: f64| (mm * POINTS_A_MM) as f32;
    let [width, height] = drawing.size_mm;
    let mut pdf = Pdf::new();
    let mut root = pdf.catalog(catalog);
    root.pages(tree);
    // Asks the reader not to scale: the default of many is to fit the page.
    root.viewer_preferences().pair(Name(b"PrintScaling"), Name(b"None"));
    root.finish();
    pdf.pages(tree).kids([page_id]).count(1);
    let mut page = pdf.page(page_id);
    page.media_box(Rect::new(0.0, 0.0, points(width), points(height)));
    page.parent(tree).contents(contents);
    page.resources().fonts().pair(Name(b"F1"), font);
    page.finish();
    pdf.type1_font(font).base_font(Name(b"Helvetica"));
    let mut content = Content::new();
    content.set_fill_gray(0.0);
    for [x, y, w, h] in &drawing.boxes {
        content.rect(points(*x), points(height - y - h), points(*w), points(*h));
        content.fill_nonzero();
    }
    for ([x, y], size, text) in &drawing.words {
        content.begin_text();
        content.set_font(Name(b"F1"), points(*size));
        content.next_line(points(*x), points(height - y));
        content.show(Str(text.as_bytes()));
        content.end_text();
    }
    pdf.stream(contents, &content.finish());
    pdf.finish()
}
