//! Who the user of an access token is (OpenID Connect Core §5.3).

use serde_json::Value;
use store::{Statement, params};

use crate::access_token::AccessToken;
use crate::authorization::{self, authorization_columns};
use crate::id_token::user_claims;
use crate::{Error, Reason, Vault, user};

impl Vault {
    /// The claims that the token's scopes allow.
    pub async fn userinfo(&self, token: &AccessToken) -> Result<Value, Error> {
        let authorization_id = token
            .authorization_id
            .as_deref()
            .ok_or(Reason::AccessTokenInvalid)?;
        let mut rows = self
            .db
            .read_all(vec![
                authorization_statement(authorization_id),
                user::by_id_statement(token.user_id.as_deref().unwrap_or_default()),
            ])
            .await?
            .into_iter();
        let mut next = || rows.next().and_then(|rows| rows.into_iter().next());
        let authorization = next()
            .map(|row| authorization::from_row_at(&row, 0))
            .transpose()?
            .ok_or(Reason::AccessTokenInvalid)?;
        let user = next()
            .map(|row| user::from_row(&row))
            .transpose()?
            .ok_or(Reason::AccessTokenInvalid)?;
        Ok(Value::Object(user_claims(&user, &authorization)))
    }
}

fn authorization_statement(id: &str) -> Statement {
    Statement::new(
        concat!(
            "select ",
            authorization_columns!(),
            " from authorizations z where z.id = $1"
        ),
        params![id],
    )
}
