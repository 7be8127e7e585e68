//! Column types with one spelling per engine, and the Rust values of columns.
//!
//! | type             | PostgreSQL    | SQLite                                        |
//! |------------------|---------------|-----------------------------------------------|
//! | [`SqlUuid`]      | `uuid`        | `BLOB` of 16 bytes                            |
//! | [`SqlTimestamp`] | `timestamptz` | `INTEGER`, microseconds since 1970 in UTC     |
//!
//! With them both engines share one `schema.rs`, and each keeps the type that is native to it.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{BigInt, Binary, SqlOrd, SqlType, Text};
use diesel::sqlite::{Sqlite, SqliteValue};
use uuid::Uuid;

use crate::domain::ids::{CallId, ChatId, MemberId, MessageId, UserId};

/// The SQL type of ids.
#[derive(Debug, Clone, Copy, Default, SqlType, QueryId)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951))]
#[diesel(sqlite_type(name = "Binary"))]
pub struct SqlUuid;

/// The SQL type of points in time.
#[derive(Debug, Clone, Copy, Default, SqlType, QueryId)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185))]
#[diesel(sqlite_type(name = "Long"))]
pub struct SqlTimestamp;

impl SqlOrd for SqlTimestamp {}

/// The value of a [`SqlUuid`] column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SqlUuid)]
pub struct UuidValue(pub Uuid);

/// The value of a [`SqlTimestamp`] column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SqlTimestamp)]
pub struct TimestampValue(pub DateTime<Utc>);

/// The value of a text column that is stored in the spelling of `T`: an enum's variant or a host's id.
#[derive(Debug, Clone, FromSqlRow)]
pub struct TextValue<T>(pub T);

impl ToSql<SqlUuid, Pg> for UuidValue {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        std::io::Write::write_all(out, self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<SqlUuid, Sqlite> for UuidValue {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.as_bytes().as_slice());
        Ok(IsNull::No)
    }
}

impl FromSql<SqlUuid, Pg> for UuidValue {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Uuid::from_slice(value.as_bytes())?))
    }
}

impl FromSql<SqlUuid, Sqlite> for UuidValue {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let bytes = <Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?;
        Ok(Self(Uuid::from_slice(&bytes)?))
    }
}

/// The start of the year 2000, from which PostgreSQL counts, in microseconds since 1970.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

impl ToSql<SqlTimestamp, Pg> for TimestampValue {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let micros = self.0.timestamp_micros() - POSTGRES_EPOCH_MICROS;
        ToSql::<BigInt, Pg>::to_sql(&micros, &mut out.reborrow())
    }
}

impl ToSql<SqlTimestamp, Sqlite> for TimestampValue {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(self.0.timestamp_micros());
        Ok(IsNull::No)
    }
}

impl FromSql<SqlTimestamp, Pg> for TimestampValue {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let micros = <i64 as FromSql<BigInt, Pg>>::from_sql(value)?;
        Self::from_micros(micros.checked_add(POSTGRES_EPOCH_MICROS))
    }
}

impl FromSql<SqlTimestamp, Sqlite> for TimestampValue {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        Self::from_micros(Some(<i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?))
    }
}

impl TimestampValue {
    /// Returns the time of a cursor, or the nearest time that both engines can store.
    ///
    /// A client may send a cursor with any number in it.
    pub fn from_micros_clamped(micros: i64) -> Self {
        const MAX_MICROS: i64 = 253_402_300_800_000_000;
        Self(DateTime::from_timestamp_micros(micros.clamp(0, MAX_MICROS)).unwrap_or_default())
    }

    fn from_micros(micros: Option<i64>) -> deserialize::Result<Self> {
        let time = micros.and_then(DateTime::from_timestamp_micros);
        time.map(Self).ok_or_else(|| "stored time is out of range".into())
    }
}

impl<T, DB> FromSql<Text, DB> for TextValue<T>
where
    T: FromStr,
    DB: Backend,
    String: FromSql<Text, DB>,
{
    fn from_sql(value: DB::RawValue<'_>) -> deserialize::Result<Self> {
        parse_text(&String::from_sql(value)?).map(Self)
    }
}

/// Parses a stored enum variant or host id.
///
/// # Errors
///
/// Returns an error if no version of this server that uses the current schema could have written the text.
pub fn parse_text<T: FromStr>(text: &str) -> deserialize::Result<T> {
    text.parse().map_err(|_| format!("unknown value {text:?} in the database").into())
}

/// Returns the key of a chat's row, which the keys of everything in the chat begin with.
pub fn chat_key(chat: ChatId) -> (i32, UuidValue) {
    (chat.bucket().number(), UuidValue(chat.0))
}

/// Returns the key of a message's row, which the keys of everything about the message begin with.
pub fn message_key(message: MessageId) -> (i32, UuidValue, i64) {
    let (bucket, chat) = chat_key(message.chat);
    (bucket, chat, message.seq)
}

/// Returns the key of a member's row.
pub fn member_key(member: &MemberId) -> (i32, UuidValue, &str) {
    let (bucket, chat) = chat_key(member.chat);
    (bucket, chat, member.user.as_str())
}

/// Returns the key of a call's row, which the keys of everything in the call begin with.
pub fn call_key(call: CallId) -> (i32, UuidValue) {
    (call.bucket().number(), UuidValue(call.call))
}

/// Unwraps lists of user ids.
pub fn into_user_ids(lists: Vec<Vec<TextValue<UserId>>>) -> Vec<Vec<UserId>> {
    lists.into_iter().map(|users| users.into_iter().map(|user| user.0).collect()).collect()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use diesel::dsl::sql;
    use diesel::prelude::*;
    use diesel::sql_types::{Nullable, Text};

    use super::{TextValue, TimestampValue};
    use crate::domain::members::Role;

    #[test]
    fn text_columns_are_parsed_and_unknown_values_rejected() {
        let mut conn = SqliteConnection::establish(":memory:").unwrap();
        let role: TextValue<Role> = diesel::select(sql::<Text>("'owner'")).get_result(&mut conn).unwrap();
        assert_eq!(role.0, Role::Owner);
        let none: Option<TextValue<Role>> =
            diesel::select(sql::<Nullable<Text>>("NULL")).get_result(&mut conn).unwrap();
        assert!(none.is_none());
        let unknown = diesel::select(sql::<Text>("'king'")).get_result::<TextValue<Role>>(&mut conn);
        assert!(unknown.is_err_and(|error| error.to_string().contains("king")));
    }

    #[test]
    fn times_of_cursors_are_clamped_to_storable_ones() {
        assert_eq!(TimestampValue::from_micros_clamped(i64::MIN).0, DateTime::<Utc>::UNIX_EPOCH);
        assert_eq!(TimestampValue::from_micros_clamped(1_000_000).0.timestamp(), 1);
        assert_eq!(TimestampValue::from_micros_clamped(i64::MAX).0.timestamp(), 253_402_300_800);
    }
}
