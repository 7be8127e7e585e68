//! Chats: opening, making, finding and changing them.

use serde_json::json;

use crate::support::each_engine;

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk() {
    each_engine(async |app| {
        let alice = app.user("alice").await;
        let bob = app.user("bob").await;
        let opened = alice.mutate("openDirectChat", json!({ "userId": "bob" }), "chat { id kind memberCount version }").await;
        assert_eq!(opened.at("openDirectChat.chat.kind"), "DIRECT");
        assert_eq!(opened.at("openDirectChat.chat.memberCount"), 2);
        let chat = opened.text("openDirectChat.chat.id");

        let mut feed = bob.feed(&chat, None, None).await;
        feed.expect("FeedCaughtUp").await;
        let sent = alice
            .mutate("sendMessage", json!({ "chatId": chat, "text": "Hello Bob", "nonce": "1" }),
                "replayed message { id seq text nonce kind sender { id name } chat { id lastMessage { text } } } messageEdge { cursor node { id } }")
            .await;
        assert_eq!(sent.at("sendMessage.replayed"), false);
        assert_eq!(sent.at("sendMessage.message.sender.name"), "Alice");
        assert_eq!(sent.at("sendMessage.message.chat.lastMessage.text"), "Hello Bob");
        let event = feed.expect("MessageUpserted").await;
        assert_eq!(event["change"], "ADDED");
        assert_eq!(event["message"]["text"], "Hello Bob");
        assert_eq!(event["message"]["id"], sent.text("sendMessage.message.id"));

        let list = bob.ask("{ chats { nodes { id lastMessage { text } viewerMembership { unreadCount role } } pageInfo { hasNextPage } } viewer { unread { chats messages } } }").await;
        assert_eq!(list.at("chats.nodes.0.viewerMembership.unreadCount"), 1);
        assert_eq!(list.at("viewer.unread"), &json!({ "chats": 1, "messages": 1 }));
        let read = bob.mutate("markRead", json!({ "chatId": chat }), "member { unreadCount lastReadMessage { text } }").await;
        assert_eq!(read.at("markRead.member"), &json!({ "unreadCount": 0, "lastReadMessage": { "text": "Hello Bob" } }));
    })
    .await;
}
