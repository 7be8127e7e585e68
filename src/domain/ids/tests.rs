//! Tests of ids, their text form and their buckets.

use super::*;

#[test]
fn id_parses_from_its_text_form_and_no_other() {
    let bucket = Bucket::new(7).unwrap();
    let chat = ChatId::new(bucket);
    let message = MessageId { chat, seq: 7 };
    let member = MemberId { chat, user: "zoë".parse().unwrap() };
    assert_eq!(chat.to_string().parse(), Ok(chat));
    assert_eq!(message.to_string().parse(), Ok(message));
    let option = OptionId { message, index: 9 };
    assert_eq!(option.to_string().parse(), Ok(option));
    assert_eq!(member.to_string().parse(), Ok(member.clone()));
    let call = CallId::new(chat);
    let participant = ParticipantId { call, user: "zoë".parse().unwrap() };
    assert_eq!(call.to_string().parse(), Ok(call));
    assert_eq!(participant.to_string().parse(), Ok(participant.clone()));
    let connection = ConnectionId { participant, join: 2 };
    assert_eq!(connection.to_string().parse(), Ok(connection));
    assert_eq!(call.to_string()[..40].parse::<CallId>(), Err(ParseIdError));
    assert_eq!(message.to_string().parse::<ChatId>(), Err(ParseIdError));
    assert_eq!(MessageId { chat, seq: i64::MIN }.to_string().parse::<MessageId>(), Err(ParseIdError));
    assert_eq!(chat.to_string().to_uppercase().parse::<ChatId>(), Err(ParseIdError));
    let candidates: Vec<_> = NodeId::candidates(&member.to_string()).collect();
    assert_eq!(candidates[0], NodeId::Member(member));
    let (notification, report) = (NotificationId::new(bucket), ReportId::new(bucket));
    assert_eq!(notification.to_string().parse(), Ok(notification));
    assert_eq!(report.to_string().parse(), Ok(report));
}

#[test]
fn id_of_another_uuid_version_is_no_id() {
    let chat = ChatId(new_uuid());
    assert_eq!(chat.to_string().parse::<ChatId>(), Err(ParseIdError));
    assert_eq!(ChatId(Uuid::nil()).to_string().parse::<ChatId>(), Err(ParseIdError));
    assert_eq!(MessageId { chat, seq: 7 }.to_string().parse::<MessageId>(), Err(ParseIdError));
    assert_eq!(ReportId(chat.0).to_string().parse::<ReportId>(), Err(ParseIdError));
    let call = CallId { chat: ChatId::new(Bucket::new(7).unwrap()), call: chat.0 };
    assert_eq!(call.to_string().parse::<CallId>(), Err(ParseIdError));
}

#[test]
fn id_has_the_bucket_that_it_was_made_for_and_ascends() {
    let organization: OrganizationId = "demo".parse().unwrap();
    let chats: Vec<_> = std::iter::repeat_with(|| ChatId::new(organization.bucket())).take(100).collect();
    assert!(chats.is_sorted() && chats.iter().all(|chat| chat.bucket() == organization.bucket()));
    assert_eq!(Bucket::of_uuid(CallId::new(chats[0]).call), organization.bucket());
    assert_eq!(NotificationId::new(organization.bucket()).bucket(), organization.bucket());
}

#[test]
fn derived_id_never_changes_and_differs_between_organizations() {
    let organization: OrganizationId = "demo".parse().unwrap();
    let chat = ChatId::derive(&organization, &[b"direct", b"alice", b"bob"]);
    assert_eq!(chat.0.simple().to_string(), "a2c9113a052d85898ed0116d37337e9d");
    assert_eq!(chat.bucket(), organization.bucket());
    assert_eq!(chat.to_string().parse(), Ok(chat));
    let other = ChatId::derive(&"acme".parse().unwrap(), &[b"direct", b"alice", b"bob"]);
    assert_ne!(chat, other);
}

#[test]
fn host_id_is_rejected_when_empty_long_or_with_invisible_characters() {
    let long = "x".repeat(256);
    for bad in ["", " ", "\u{200B}", "a\0b", "a\nb", "a\u{200B}b", "a\u{202E}b", "a\u{2028}b", " a", "a ", &long] {
        assert_eq!(bad.parse::<UserId>(), Err(ParseIdError), "{bad:?}");
        assert!(serde_json::from_value::<UserId>(bad.into()).is_err(), "{bad:?}");
    }
    for good in ["auth0|5f7c8ec7c33c6c004bbafe82", "a b", "می\u{200C}خواهم", "👩\u{200D}🚀"] {
        assert!(good.parse::<UserId>().is_ok(), "{good:?}");
    }
    let organization: OrganizationId = "demo".parse().unwrap();
    assert_eq!(serde_json::to_string(&organization).unwrap(), "\"demo\"");
    assert_eq!(organization.to_string(), "org_demo");
}
