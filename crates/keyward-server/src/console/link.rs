//! What the pages behind a link have in common. The link's token is the credential: it stands in no address that a browser
//! keeps or tells others, the form brings it back, and no cookie alone does anything here, so nothing can be forged.

use axum::extract::{FromRequestParts, Query, Request};
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use keyward::limits::callers::Call;
use keyward_core::problem::Code;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::language::Language;
use super::page::page_in;
use crate::api::auth::Visitor;
use crate::api::caller::Stranger;
use crate::api::cookies;
use crate::api::json::read_body;
use crate::app::SharedApp;
use crate::fixed_headers;
use crate::problem::Problem;
use crate::serve::Peer;

/// How long a browser holds a token that was taken out of its address; the link in the mail opens the page again.
const HELD_SECONDS: i64 = 30 * 60;

/// Somebody who reads a page.
pub struct Reader {
    pub visitor: Visitor,
    pub language: Language,
    /// The token stood in the address.
    token: Option<String>,
    is_https: bool,
}

#[derive(Default, Deserialize)]
struct Link {
    token: Option<String>,
}

impl Reader {
    /// Who comes by a link.
    pub async fn arrived(app: &SharedApp, request: Request) -> Result<Self, Response> {
        let reader = Self::visiting(app, request).await?;
        if reader.token().is_empty() {
            let title = reader.language.say("This page needs its link", "リンクから開いてください");
            let meaning = reader
                .language
                .say("Open it by the link that you were sent.", "このページは、お送りしたリンクから開いてください。");
            return Err(reader.tell(StatusCode::GONE, title, meaning));
        }
        Ok(reader)
    }

    /// Who opens a page that needs no link.
    pub async fn visiting(app: &SharedApp, request: Request) -> Result<Self, Response> {
        let stranger = Stranger::of(app, &request);
        let (mut parts, _) = request.into_parts();
        let reader = Self::of(app, &mut parts).await?;
        match stranger.admit(app, Call::Unauthenticated).await {
            Ok(()) => Ok(reader),
            Err(problem) => Err(reader.refused(&problem)),
        }
    }

    /// Who sends a form, and what it was filled in with.
    pub async fn sent<T: DeserializeOwned>(app: &SharedApp, request: Request) -> Result<(Self, T), Response> {
        let stranger = Stranger::of(app, &request);
        let (mut parts, body) = request.into_parts();
        let reader = Self::of(app, &mut parts).await?;
        let read = async {
            stranger.admit(app, Call::Authentication).await?;
            if parts.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
                let problem = Problem::plain(Code::CsrfFailed);
                stranger.note(app, "access_denied", &problem.0).await;
                return Err(problem);
            }
            let body = read_body(Request::from_parts(parts, body), app).await?;
            read_form(&body).ok_or_else(|| Problem::plain(Code::MalformedRequest))
        };
        match read.await {
            Ok(answers) => Ok((reader, answers)),
            Err(problem) => Err(reader.refused(&problem)),
        }
    }

    async fn of(app: &SharedApp, parts: &mut http::request::Parts) -> Result<Self, Response> {
        let visitor = Visitor::from_request_parts(parts, app).await.map_err(IntoResponse::into_response)?;
        let link = Query::<Link>::try_from_uri(&parts.uri).map(|Query(link)| link).unwrap_or_default();
        let by_tls = parts.extensions.get().is_some_and(|peer: &Peer| {
            peer.is_https || app.trusts(peer.address.ip()) && fixed_headers::is_https(&parts.headers)
        });
        Ok(Self { language: Language::of(&visitor.headers), visitor, token: link.token, is_https: by_tls })
    }

    /// The link's token: out of the address, or as it was put aside from there.
    pub fn token(&self) -> &str {
        self.token.as_deref().or_else(|| cookies::read(&self.visitor.headers, cookies::LINK)).unwrap_or_default()
    }

    /// The way to the same page without the token in its address, where a cookie can hold it: over HTTPS.
    pub fn put_aside(&self, path: &'static str) -> Option<Response> {
        let token = self.token.as_deref().filter(|_| self.is_https)?;
        let mut response = (StatusCode::SEE_OTHER, [(header::CACHE_CONTROL, "no-store")]).into_response();
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(path));
        response.headers_mut().append(header::SET_COOKIE, cookies::set(cookies::LINK, token, HELD_SECONDS));
        Some(response)
    }

    /// A page of its own for this reader, which nobody keeps.
    pub fn answer(&self, status: StatusCode, title: &str, body: &str) -> Response {
        (status, private(self.language), Html(page_in(self.language, title, body))).into_response()
    }

    /// The same with nothing but a headline and what it means, as HTML.
    pub fn tell(&self, status: StatusCode, title: &str, meaning: &str) -> Response {
        self.answer(status, title, &format!("<h1>{title}</h1><p class=\"lead\">{meaning}</p>"))
    }

    /// The last page of a link.
    pub fn done(&self, status: StatusCode, title: &str, meaning: &str) -> Response {
        self.forgetting(self.tell(status, title, meaning))
    }

    /// What was put aside is forgotten with this answer.
    pub fn forgetting(&self, mut response: Response) -> Response {
        if cookies::read(&self.visitor.headers, cookies::LINK).is_some() {
            response.headers_mut().append(header::SET_COOKIE, cookies::clear(cookies::LINK));
        }
        response
    }

    /// The page behind a link that is good no more, or the reason why there is none.
    pub fn gone(&self, error: keyward::Error, title: &str, meaning: &str) -> Response {
        match error.code {
            Code::Gone => self.done(StatusCode::GONE, title, meaning),
            _ => self.refused(&error.into()),
        }
    }

    /// Why there is no page: told in a few words, with the headers of a problem.
    pub fn refused(&self, problem: &Problem) -> Response {
        problem.log(&self.visitor.context.request_id.map(|id| id.to_string()).unwrap_or_default());
        let (title, meaning) = match (problem.0.code, problem.0.retry_after_seconds()) {
            (Code::CsrfFailed, _) => self.language.say(
                ("This form came from elsewhere", "It must be sent from its own page. Nothing was changed.".to_owned()),
                (
                    "別のページから送信されました",
                    "このフォームは元のページから送信してください。変更は行われていません。".to_owned(),
                ),
            ),
            (Code::RateLimited, Some(seconds)) => self.language.say(
                ("Too many tries", format!("Wait {seconds} seconds, then try again.")),
                ("試行回数が多すぎます", format!("{seconds}秒ほど待ってから、もう一度お試しください。")),
            ),
            (_, Some(_)) => self.language.say(
                ("Not ready", "Try again in a moment. Nothing was changed.".to_owned()),
                (
                    "現在ご利用いただけません",
                    "しばらくしてから、もう一度お試しください。変更は行われていません。".to_owned(),
                ),
            ),
            _ => self.language.say(
                ("This did not work", "Go back and try again. Nothing was changed.".to_owned()),
                (
                    "処理できませんでした",
                    "前のページに戻って、もう一度お試しください。変更は行われていません。".to_owned(),
                ),
            ),
        };
        let mut response = self.tell(problem.status(), title, &meaning);
        let told =
            problem.headers().filter(|(name, _)| *name != header::CONTENT_TYPE && *name != header::CACHE_CONTROL);
        response.headers_mut().extend(told);
        response
    }
}

/// On a page that one reader is shown, in their language.
pub fn private(language: Language) -> [(HeaderName, &'static str); 3] {
    [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_LANGUAGE, language.tag()),
        (header::VARY, "origin, accept-language"),
    ]
}

/// What a form of ours was filled in with.
pub fn read_form<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let uri = format!("/?{}", std::str::from_utf8(body).ok()?).parse().ok()?;
    Query::<T>::try_from_uri(&uri).ok().map(|Query(answers)| answers)
}
