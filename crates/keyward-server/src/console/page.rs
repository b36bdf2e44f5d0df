//! The frame of every page: one style sheet in the page itself, no script, nothing fetched.

use super::language::Language;

/// A whole page around a body of trusted HTML.
pub fn page(title: &str, body: &str) -> String {
    page_in(Language::English, title, body)
}

/// The same in its reader's language.
pub fn page_in(language: Language, title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"{}\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{} · Keyward</title><style>{STYLE}</style><main>{body}</main></html>",
        language.tag(),
        escape(title)
    )
}

/// Text made safe to stand in HTML, in an element or an attribute.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// The one style sheet.
pub const STYLE: &str = "
:root{color-scheme:light dark;--ink:light-dark(#1b1f24,#e6e8eb);--quiet:light-dark(#5b6570,#9aa4af);--line:light-dark(#d9dee3,#343a41);--mark:light-dark(#0b5cad,#7ab8ff);--ground:light-dark(#fff,#15181c);--field:light-dark(#f4f6f8,#1d2126);--edge:light-dark(#76808a,#7d8792);--fault:light-dark(#b3261e,#ff9a90)}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:56rem;margin:0 auto;padding:3rem 1.25rem 5rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .75rem;overflow-wrap:anywhere}h2{margin:2.5rem 0 .75rem;font-size:1.2rem}h3{margin:1rem 0 .25rem;font-size:.9rem;color:var(--quiet)}
.lead{font-size:1.1rem;color:var(--quiet);overflow-wrap:anywhere}a{color:var(--mark)}code{font:.9em ui-monospace,monospace;overflow-wrap:anywhere}
details{border-top:1px solid var(--line)}details[open]{padding-bottom:1rem}summary{cursor:pointer;padding:.6rem 0}
.method{display:inline-block;min-width:4.2rem;font-size:.8rem;color:var(--mark)}.about{display:block;color:var(--quiet);margin-left:4.6rem}
.tag{font-size:.75rem;border:1px solid var(--line);border-radius:1rem;padding:.05rem .5rem;margin-left:.5rem;color:var(--quiet)}
table{border-collapse:collapse;width:100%;font-size:.9rem}td,th{text-align:left;vertical-align:top;padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--line)}
form{display:grid;gap:1rem;max-width:28rem;margin-top:1.5rem}label{display:grid;gap:.3rem;font-weight:600}.field{display:grid;gap:.3rem}.fault{margin:0;color:var(--fault)}small{font-weight:400;color:var(--quiet)}
input{font:inherit;min-width:0;padding:.55rem .7rem;border:1px solid var(--edge);border-radius:.4rem;background:var(--field);color:inherit}input[aria-invalid]{border-color:var(--fault)}input[readonly]{background:none}
button{font:inherit;font-weight:600;padding:.65rem 1rem;border:0;border-radius:.4rem;background:var(--mark);color:var(--ground);cursor:pointer}
pre{background:var(--field);border:1px solid var(--line);border-radius:.4rem;padding:1rem;overflow:auto}
:focus-visible{outline:3px solid var(--mark);outline-offset:2px}
[role=alert]{border-left:4px solid var(--fault);padding:.5rem 1rem;background:var(--field)}
";

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(super::escape("<a href='x\">&"), "&lt;a href=&#39;x&quot;&gt;&amp;");
    }
}
