//! What every part of the page is made with.

use std::fmt::Write as _;

/// A part of the page under its own title.
pub fn section(html: &mut String, title: &str, about: &str, content: &str) {
    let about = if about.is_empty() { String::new() } else { format!("<p>{}</p>", escape(about)) };
    let _ = write!(html, "<section><h2>{}</h2>{about}{content}</section>", escape(title));
}

/// Text as it may stand in HTML, in an attribute too.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
