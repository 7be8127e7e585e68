//! Column types with one spelling per engine, and the values that go in them.
//!
//! | type      | PostgreSQL    | SQLite                                        |
//! |-----------|---------------|-----------------------------------------------|
//! | `Id`      | `uuid`        | `BLOB` of 16 bytes                            |
//! | `Instant` | `timestamptz` | `INTEGER`, microseconds since 1970 in UTC     |
//!
//! So there is one `schema.rs`, and each engine keeps the type that is native to it.

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::query_builder::QueryId;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::SqlOrd;
use diesel::sql_types::{BigInt, Binary, SqlType};
use diesel::sqlite::{Sqlite, SqliteValue};
use uuid::Uuid;

use crate::domain::ids::UserId;

#[derive(Debug, Clone, Copy, Default, SqlType, QueryId)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951))]
#[diesel(sqlite_type(name = "Binary"))]
pub struct SqlUuid;

#[derive(Debug, Clone, Copy, Default, SqlType, QueryId)]
#[diesel(postgres_type(oid = 1184, array_oid = 1185))]
#[diesel(sqlite_type(name = "Long"))]
pub struct SqlTimestamp;

impl SqlOrd for SqlTimestamp {}

/// The value of an [`Id`] column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = SqlUuid)]
pub struct UuidValue(pub Uuid);

/// The value of an [`Instant`] column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = SqlTimestamp)]
pub struct TimestampValue(pub DateTime<Utc>);

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

/// PostgreSQL counts from the start of the year 2000.
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
    /// The moment of a cursor, or the nearest that both engines can hold: a client may send any number.
    pub fn from_micros_clamped(micros: i64) -> Self {
        const MAX_MICROS: i64 = 253_402_300_800_000_000;
        Self(DateTime::from_timestamp_micros(micros.clamp(0, MAX_MICROS)).unwrap_or_default())
    }

    fn from_micros(micros: Option<i64>) -> deserialize::Result<Self> {
        let time = micros.and_then(DateTime::from_timestamp_micros);
        time.map(Self).ok_or_else(|| "a time out of range".into())
    }
}

/// Reads a word of a closed set, or a host's id, that only this server writes.
pub fn parse_column<T: std::str::FromStr>(text: &str) -> deserialize::Result<T> {
    text.parse().map_err(|_| format!("unknown word {text:?} in the database").into())
}

/// Reads lists of people.
pub fn parse_user_ids(lists: Vec<Vec<String>>) -> crate::error::Result<Vec<Vec<UserId>>> {
    let list = |users: Vec<String>| users.iter().map(|user| Ok(parse_column(user)?)).collect();
    lists.into_iter().map(list).collect()
}
