//! The one table of error codes: what a client can be told, the status that goes with it, and a sentence for the page
//! under `/errors/` (RFC 9457). Which error happened, and how it travels, is decided elsewhere.

macro_rules! codes {
    ($($variant:ident $code:literal $status:literal $title:literal $meaning:literal;)*) => {
        /// A stable error code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($variant),* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Stable snake_case, as in the field `code`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),* }
            }

            /// HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// What it means and what to do, for the page of this code.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }
        }
    };
}

codes! {
    MalformedRequest "malformed_request" 400 "The request could not be read" "The body is not JSON, a query parameter has the wrong form, or the request contradicts itself. Correct it before sending it again.";
    InvalidCursor "invalid_cursor" 400 "The cursor is not valid" "Cursors are opaque and belong to one list with one set of filters. Start again without one.";
    AmbiguousCredentials "ambiguous_credentials" 400 "Two different credentials were sent" "Send either an Authorization header or X-Api-Key, not two that differ.";
    Unauthenticated "unauthenticated" 401 "A valid credential is needed" "Send a service key as `Authorization: Bearer …` or `X-Api-Key`. It may be missing, wrong, expired, disabled or revoked.";
    InvalidCredentials "invalid_credentials" 401 "The sign-in was refused" "The e-mail address, the password or the account is not right; which of them is not told.";
    InvalidToken "invalid_token" 401 "The token is not valid" "It is unknown, has run out, was used already, or its session has ended. Sign in again.";
    ProviderRefused "provider_refused" 401 "The sign-in by the identity provider came to nothing" "The provider's answer was not accepted, or it opens no account here; the audit log says why. Sign in again, or ask an administrator.";
    InvalidCode "invalid_code" 401 "The code is not right" "Send the present code of the authenticator, or a backup code that was not used yet.";
    CodeUsed "code_used" 401 "The code was used already" "Each code is accepted once. Wait for the next one.";
    InvalidPasskey "invalid_passkey" 401 "The passkey was not accepted" "Begin anew: each challenge is good once and for five minutes, on the instance's own address, and the authenticator must verify its user.";
    RefreshReuse "refresh_reuse" 401 "The refresh token was used already" "Somebody may have a copy of it, so its session was ended. Sign in again.";
    InsufficientUserAuthentication "insufficient_user_authentication" 401 "A fresh proof of identity is needed" "Send password or second factor again to `/v1/auth/step-up`, then repeat the call within five minutes (RFC 9470).";
    Forbidden "forbidden" 403 "The credential does not allow this" "The key's permissions, within its owner's present role, do not cover this call.";
    KeyRefused "key_refused" 403 "The API key is not allowed here" "The key is genuine, but a rule of it (scope, address, route, hours, country or environment) refuses this request.";
    SecondFactorEnrolmentRequired "2fa_enrolment_required" 403 "A second factor must be set up first" "The organization or the instance asks for a second factor. Enrol one under `/v1/auth/totp` or `/v1/auth/passkeys`.";
    PasswordResetRequired "password_reset_required" 403 "The password must be reset" "Too many sign-ins failed one after another. Reset the password by mail, or ask an administrator.";
    CsrfFailed "csrf_failed" 403 "The request did not come from our own pages" "Send the token of `/v1/security/csrf-token` as `X-CSRF-Token`, from the instance's own origin.";
    NotFound "not_found" 404 "There is nothing here" "It does not exist, or this credential may not see it; the two look the same.";
    MethodNotAllowed "method_not_allowed" 405 "The method is not allowed here" "See the Allow header for the methods that this path takes.";
    RequestTimeout "request_timeout" 408 "The request took too long to arrive" "The body was not complete in time. Send it again.";
    Conflict "conflict" 409 "The present state does not allow this" "Read the object again and decide anew.";
    AlreadyTaken "already_taken" 409 "The value is already taken" "Another object has the same unique value; choose another.";
    IdempotencyConflict "idempotency_conflict" 409 "The idempotency key belongs to another request" "The same Idempotency-Key came with a different request, or the first one is still running. Use a new key, or repeat the same request.";
    KeyLimitReached "key_limit_reached" 409 "The plan allows no more keys" "Revoke or delete a key, or move the organization to a larger plan.";
    PlanBelowUse "plan_below_use" 409 "More is in use than the plan would allow" "Revoke keys first, keep present organizations on their version (`grandfather`), or choose a larger plan.";
    HasActiveKeys "has_active_keys" 409 "The organization still has active keys" "Revoke them first, or delete with `cascade=true`.";
    LastOwner "last_owner" 409 "There must always be an owner" "Make another person an owner first.";
    LastWayToSignIn "last_way_to_sign_in" 409 "It is the last way to sign in" "Set a password or register a passkey first; to shut somebody out, disable the account.";
    Gone "gone" 410 "The link is no longer valid" "It was used already or has run out. Ask for a new one.";
    TooLarge "too_large" 413 "The request body is too large" "See the limit in the detail; send less at a time.";
    UriTooLong "uri_too_long" 414 "The request address is too long" "Shorten the query.";
    UnsupportedMediaType "unsupported_media_type" 415 "The media type is not supported here" "Send `Content-Type: application/json`, or the type that the reference names.";
    InvalidField "invalid_field" 422 "A field is not valid" "See `errors`: each entry points at a field and says what is wrong with it.";
    UnknownField "unknown_field" 422 "A field is not known" "See `errors` for the field. Unknown fields are refused so that a typing error loses nothing.";
    NotDelegable "not_delegable" 422 "The permission cannot be given to a key" "Only a signed-in person can use this permission.";
    PasswordTooShort "password_too_short" 422 "The password is too short" "Use at least 15 characters, or 8 where a second factor is required.";
    PasswordCompromised "password_compromised" 422 "The password is too easily guessed" "It is among the passwords that are tried first, or made of such. Choose another, for example four random words.";
    PasswordContextual "password_contextual" 422 "The password is too close to the account" "It is made of the e-mail address, a name or the product. Choose another.";
    RateLimited "rate_limited" 429 "Too many requests" "Wait for the time in Retry-After.";
    QuotaExceeded "quota_exceeded" 429 "The quota is used up" "Wait for the next period or move to a larger plan.";
    HeadersTooLarge "headers_too_large" 431 "The request headers are too large" "Send fewer or shorter headers.";
    Internal "internal" 500 "Something went wrong in Keyward" "The log has the details under the request id.";
    NotReady "not_ready" 503 "Keyward cannot answer just now" "The database does not answer, or the server is starting or stopping. Try again after the time in Retry-After.";
    Overloaded "overloaded" 503 "Too much is being asked at once" "A bounded resource is full. Try again after the time in Retry-After.";
}

impl Code {
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == code)
    }
}

/// One field that was refused: a JSON pointer (RFC 6901) and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldFault {
    pub pointer: String,
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn codes_read_back_and_are_snake_case() {
        for code in Code::ALL {
            assert_eq!(Code::from_code(code.as_str()), Some(*code));
            assert!(code.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            assert!((400..600).contains(&code.status()));
        }
    }
}
