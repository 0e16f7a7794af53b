//! Text from outside made safe for HTML and SVG, the beginning of a page, and tables.

use super::STYLE;

/// Text as it may stand in an element or in a quoted attribute. Control characters, which neither may hold, are replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The beginning of a page: title, heading, names and values, what a reader should know beside the figures.
pub fn opening(title: &str, heading: &str, facts: &[(String, String)], notes: &[String]) -> String {
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n");
    page.push_str(&format!(
        "<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{heading}</h1>\n<dl>\n"
    ));
    for (name, value) in facts {
        page.push_str(&format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)));
    }
    page.push_str("</dl>\n");
    for note in notes {
        page.push_str(&format!("<p>Note: {}</p>\n", escape(note)));
    }
    page
}

/// A table; the first row is its header, the first column names the rows. Cells are escaped here.
pub fn table(rows: &[Vec<String>]) -> String {
    let row = |(number, cells): (usize, &Vec<String>)| {
        let cells = cells.iter().enumerate().map(|(column, cell)| {
            let tag = if number == 0 || column == 0 { "th" } else { "td" };
            format!("<{tag}>{}</{tag}>", escape(cell))
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = rows.iter().enumerate().map(row).collect();
    format!("<div class=\"wide\"><table>\n{rows}</table></div>\n")
}

/// A number for people; a dash where there is none.
pub fn number(value: Option<f64>, digits: usize) -> String {
    match value {
        // No minus before a zero.
        Some(value) if value.abs() < 0.5 * 0.1f64.powi(digits as i32) => format!("{:.digits$}", 0.0),
        Some(value) => format!("{value:.digits$}"),
        None => "–".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escape("<b onclick=\"x('&')\">\u{0}"),
            "&lt;b onclick=&quot;x(&#39;&amp;&#39;)&quot;&gt;\u{fffd}"
        );
        let table = table(&[vec!["<i>".into()], vec!["a&b".into()]]);
        assert!(table.contains("<th>&lt;i&gt;</th>") && table.contains("<th>a&amp;b</th>"));
    }

    #[test]
    fn numbers_have_no_negative_zero() {
        assert_eq!(number(Some(-0.0004), 3), "0.000");
        assert_eq!(number(Some(-0.0006), 3), "-0.001");
        assert_eq!(number(None, 3), "–");
    }
}
