//! Forms that work without a script: each field with its label, its hint and, beside it, what is wrong with what was typed, in
//! the reader's language.

use super::language::Language;
use super::page::escape;

/// What is wrong with a field of a form.
pub struct Fault {
    pub field: String,
    pub text: String,
}

/// What the platform says of a field, its number (if there is one) as `#`; then the same to a reader.
const SAID: [(&str, &str, &str); 8] = [
    ("must not be empty", "Fill this in.", "入力してください。"),
    ("is required", "Fill this in.", "入力してください。"),
    ("needs at least # characters", "Too short: use # characters or more.", "短すぎます。#文字以上にしてください。"),
    ("is longer than # bytes", "Too long: # bytes at most.", "長すぎます。#バイト以内にしてください。"),
    ("is longer than # characters", "Too long: # characters at most.", "長すぎます。#文字以内にしてください。"),
    (
        "is among the passwords that are tried first",
        "Too easy to guess: it is among the passwords that are tried first.",
        "推測されやすいパスワードです。別のものにしてください。",
    ),
    (
        "is made of the account's own words",
        "Too easy to guess: it is made of the name or the address of the account.",
        "名前やメールアドレスから推測できるパスワードです。別のものにしてください。",
    ),
    ("is not an e-mail address", "This is not an e-mail address.", "メールアドレスの形式が正しくありません。"),
];
const FORBIDDEN_CHARACTER: &str = "contains the forbidden character ";

impl Fault {
    /// What the platform found wrong; a field has the name that its pointer has.
    pub fn of(error: &keyward::Error, language: Language) -> Vec<Self> {
        let faults = error.faults.iter();
        faults
            .map(|fault| Self {
                field: fault.pointer.trim_start_matches('/').to_owned(),
                text: told(&fault.detail, language),
            })
            .collect()
    }

    /// A password that was repeated must be the same. Programs need not repeat it.
    pub fn unless_same(password: &str, again: Option<&str>, language: Language) -> Vec<Self> {
        if again.is_none_or(|again| again == password) {
            return Vec::new();
        }
        let text = language.say("This is not the same password.", "パスワードが一致しません。");
        vec![Self { field: AGAIN.to_owned(), text: text.to_owned() }]
    }
}

/// The field in which a password is repeated.
pub const AGAIN: &str = "again";

/// The sentence for a reader; one that is not known stays as it is.
fn told(detail: &str, language: Language) -> String {
    if detail.starts_with(FORBIDDEN_CHARACTER) {
        let told = language.say("It has a character that cannot stand here.", "使用できない文字が含まれています。");
        return told.to_owned();
    }
    let number: String = detail.chars().filter(char::is_ascii_digit).collect();
    let shape = if number.is_empty() { detail.to_owned() } else { detail.replace(&number, "#") };
    let known = SAID.iter().find(|(said, ..)| *said == shape);
    known.map_or_else(
        || detail.to_owned(),
        |(_, english, japanese)| language.say(english, japanese).replace('#', &number),
    )
}

/// A field to type into.
#[derive(Default)]
pub struct Field<'a> {
    pub name: &'a str,
    pub label: &'a str,
    pub hint: &'a str,
    /// Further attributes, as HTML.
    pub attributes: &'a str,
    /// What was typed before; passwords are typed again.
    pub value: &'a str,
}

/// A form on its way to be HTML.
pub struct Form<'a> {
    faults: &'a [Fault],
    html: String,
}

impl<'a> Form<'a> {
    /// A form that brings something along which is not typed: its link's token, say.
    pub fn to(action: &str, along: Option<(&str, &str)>, faults: &'a [Fault], language: Language) -> Self {
        let alert = match faults {
            [] => "",
            _ => language.say(
                "<p role=\"alert\">Something is to be corrected below.</p>",
                "<p role=\"alert\">入力内容に修正が必要な項目があります。</p>",
            ),
        };
        let hidden = along.map_or_else(String::new, |(name, value)| {
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value))
        });
        Self { faults, html: format!("{alert}<form method=\"post\" action=\"{action}\">{hidden}") }
    }

    /// The first field at fault has the focus.
    pub fn field(mut self, field: &Field<'_>) -> Self {
        let Field { name, label, hint, attributes, value } = field;
        let fault = self.faults.iter().find(|fault| fault.field == *name);
        let mut described = Vec::new();
        let mut beside = String::new();
        if !hint.is_empty() {
            described.push(format!("{name}-hint"));
            beside.push_str(&format!("<small id=\"{name}-hint\">{}</small>", escape(hint)));
        }
        let mut state = String::new();
        if let Some(fault) = fault {
            described.push(format!("{name}-fault"));
            beside.push_str(&format!("<p class=\"fault\" id=\"{name}-fault\">{}</p>", escape(&fault.text)));
            let is_first = self.faults[0].field == *name;
            state.push_str(if is_first { " aria-invalid=\"true\" autofocus" } else { " aria-invalid=\"true\"" });
        }
        if !described.is_empty() {
            state.push_str(&format!(" aria-describedby=\"{}\"", described.join(" ")));
        }
        self.html.push_str(&format!(
            "<div class=\"field\"><label for=\"{name}\">{}</label>{beside}\
             <input id=\"{name}\" name=\"{name}\" value=\"{}\" {attributes}{state}></div>",
            escape(label),
            escape(value),
        ));
        self
    }

    /// The account that the form is about, as password stores look for it.
    pub fn account(self, email: &str, language: Language) -> Self {
        let label = language.say("E-mail", "メールアドレス");
        let attributes = "type=\"email\" autocomplete=\"username\" readonly";
        self.field(&Field { name: "email", label, attributes, value: email, ..Field::default() })
    }

    /// A new password, twice.
    pub fn new_password(self, name: &str, hint: &str, attributes: &str, language: Language) -> Self {
        let attributes = format!("type=\"password\" autocomplete=\"new-password\" {attributes}");
        let password = Field {
            name,
            label: language.say("Password", "パスワード"),
            hint,
            attributes: &attributes,
            ..Field::default()
        };
        let again =
            Field {
                name: AGAIN, label: language.say("Password, again", "パスワード（確認用）"), hint: "", ..password
            };
        self.field(&password).field(&again)
    }

    pub fn button(self, label: &str) -> String {
        format!("{}<button>{}</button></form>", self.html, escape(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_platform_says_is_told_in_the_readers_language() {
        let japanese = |detail| told(detail, Language::Japanese);
        assert_eq!(japanese("needs at least 15 characters"), "短すぎます。15文字以上にしてください。");
        assert_eq!(japanese("contains the forbidden character U+202E"), "使用できない文字が含まれています。");
        assert_eq!(told("is longer than 200 characters", Language::English), "Too long: 200 characters at most.");
        assert_eq!(japanese("is something new"), "is something new");
    }

    #[test]
    fn nothing_that_was_typed_is_markup() {
        let faults = [Fault { field: "name".to_owned(), text: "<b>".to_owned() }];
        let field = Field { name: "name", value: "\"><script>", ..Field::default() };
        let form = Form::to("/x", Some(("token", "'\"")), &faults, Language::English).field(&field).button("Go");
        assert!(form.contains("value=\"&quot;&gt;&lt;script&gt;\"") && form.contains("&lt;b&gt;"), "{form}");
        assert!(form.contains("value=\"&#39;&quot;\""), "{form}");
    }
}
