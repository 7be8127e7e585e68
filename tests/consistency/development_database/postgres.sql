-- The rows of a PostgreSQL database that a server wrote before buckets, when the last migration was 15. Its chats are a direct
-- chat of Alice and Bob, Alice's own notes, the group "Walk" with the nonce "walk", the group "Talk" without a nonce, the
-- channel "News", the chat of the resource ticket 7, and two chats of another organisation.

DELETE FROM search_reindexing;

INSERT INTO organizations (id, created_at)
VALUES ('demo', '2026-11-28 01:25:11.739812+00');
INSERT INTO organizations (id, created_at)
VALUES ('acme', '2026-11-28 01:25:11.788149+00');

INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('demo', 'alice', 'Alice', 'alice', NULL, '2026-11-28 01:25:11.739812+00', NULL, NULL, '1970-01-01 00:00:01+00', '2096-10-02 07:07:10+00', 'alice');
INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('demo', 'bob', 'Bob', 'bob', NULL, '2026-11-28 01:25:11.763103+00', NULL, NULL, '1970-01-01 00:00:01+00', '2096-10-02 07:07:10+00', 'bob');
INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('demo', 'carol', 'Carol', 'carol', NULL, '2026-11-28 01:25:11.777728+00', NULL, NULL, '1970-01-01 00:00:01+00', '2096-10-02 07:07:10+00', 'carol');
INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('acme', 'ann', 'Ann', 'ann', NULL, '2026-11-28 01:25:11.788149+00', NULL, NULL, '1970-01-01 00:00:01+00', '2096-10-02 07:07:10+00', 'ann');
INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('acme', 'ben', 'Ben', 'ben', NULL, '2026-11-28 01:25:11.800898+00', NULL, NULL, '1970-01-01 00:00:01+00', '2096-10-02 07:07:10+00', 'ben');

INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES ('01a21fc1-9c82-74a3-9553-d34e2d87323b', 'acme', 'group', NULL, 'Walk of Acme', 'walk of acme', NULL, NULL, '{}', 0, 'ann', '2026-11-28 01:25:11.938331+00', '2026-11-28 01:25:11.938331+00', 5, 1, 5, 2, NULL, 'walk', '\x91af019c7d39d6064e5d95107bc36e05', NULL, NULL, NULL, '2026-11-28 01:25:11.938331+00', 0, 'all', 'walk of acme');
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES ('01a21fc1-9c15-756a-872a-2b209a8a6336', 'demo', 'direct', NULL, NULL, NULL, NULL, NULL, '{}', 0, 'alice', '2026-11-28 01:25:11.829277+00', '2026-11-28 01:25:12.018466+00', 3, 1, 3, 1, 'alice
alice', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.018466+00', 3, 'all', NULL);
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES ('01a21fc1-9c58-7193-9879-3081ab721124', 'demo', 'group', NULL, 'Ticket 7', 'ticket 7', NULL, NULL, '{}', 0, 'alice', '2026-11-28 01:25:11.895514+00', '2026-11-28 01:25:12.033605+00', 6, 1, 6, 2, NULL, NULL, NULL, NULL, 'ticket', '7', '2026-11-28 01:25:12.033605+00', 6, 'all', 'ticket 7');
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES ('01a21fc1-9c6e-730c-98cb-7d92d5022825', 'acme', 'direct', NULL, NULL, NULL, NULL, NULL, '{}', 0, 'ann', '2026-11-28 01:25:11.917747+00', '2026-11-28 01:25:12.045321+00', 4, 1, 4, 2, 'ann
ben', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.045321+00', 4, 'all', NULL);
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES ('01a21fc1-9c32-74f3-9a6d-3988cc855a0d', 'demo', 'group', NULL, 'Talk', 'talk', NULL, NULL, '{}', 0, 'bob', '2026-11-28 01:25:11.857584+00', '2026-11-28 01:25:12.056773+00', 6, 1, 6, 2, NULL, NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.056773+00', 6, 'all', 'talk');
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES ('01a21fc1-9c3b-7333-89bd-b7b1bb55c5ac', 'demo', 'channel', NULL, 'News', 'news', NULL, NULL, '{}', 0, 'alice', '2026-11-28 01:25:11.867127+00', '2026-11-28 01:25:11.867127+00', 9, 9, 8, 1, NULL, NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.272826+00', 0, 'all', 'news');
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 'demo', 'direct', NULL, NULL, NULL, NULL, NULL, '{}', 0, 'alice', '2026-11-28 01:25:11.816806+00', '2026-11-28 01:25:12.209085+00', 13, 13, 12, 2, 'alice
bob', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.423044+00', 5, 'all', NULL);
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 'demo', 'group', NULL, 'Walk', 'walk', NULL, NULL, '{}', 0, 'alice', '2026-11-28 01:25:11.841228+00', '2026-11-28 01:25:12.166804+00', 17, 17, 16, 3, NULL, 'walk', '\xbdf8ca4af5771342b375605676c66fd9', NULL, NULL, NULL, '2026-11-28 01:25:12.441301+00', 14, 'all', 'walk');

INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 'carol', 'demo', 'member', '2026-11-28 01:25:11.841228+00', 'alice', NULL, 4, 6, NULL, NULL, NULL, 0, false, NULL, 'all', false, false, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c32-74f3-9a6d-3988cc855a0d', 'alice', 'demo', 'member', '2026-11-28 01:25:11.857584+00', 'bob', NULL, 3, 5, NULL, NULL, NULL, 0, false, NULL, 'all', false, false, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c3b-7333-89bd-b7b1bb55c5ac', 'alice', 'demo', 'owner', '2026-11-28 01:25:11.867127+00', NULL, NULL, 2, 4, NULL, NULL, NULL, 0, false, NULL, 'all', false, false, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c58-7193-9879-3081ab721124', 'alice', 'demo', 'owner', '2026-11-28 01:25:11.895514+00', NULL, NULL, 2, 5, NULL, NULL, NULL, 0, false, NULL, 'all', false, false, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c6e-730c-98cb-7d92d5022825', 'ben', 'acme', 'member', '2026-11-28 01:25:11.917747+00', 'ann', NULL, 3, 0, NULL, NULL, NULL, 0, false, NULL, 'all', false, false, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c82-74a3-9553-d34e2d87323b', 'ann', 'acme', 'owner', '2026-11-28 01:25:11.938331+00', NULL, NULL, 2, 5, NULL, NULL, NULL, 0, false, NULL, 'all', false, false, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c82-74a3-9553-d34e2d87323b', 'ben', 'acme', 'member', '2026-11-28 01:25:11.938331+00', 'ann', NULL, 3, 5, NULL, NULL, NULL, 0, false, NULL, 'all', false, false, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c15-756a-872a-2b209a8a6336', 'alice', 'demo', 'member', '2026-11-28 01:25:11.829277+00', NULL, NULL, 2, 3, '2026-11-28 01:25:12.018466+00', '2026-11-28 01:25:12.018466+00', NULL, 0, false, NULL, 'all', false, false, NULL, '2026-11-28 01:25:12.018466+00', '2026-11-28 01:25:12.018466+00', 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c58-7193-9879-3081ab721124', 'carol', 'demo', 'member', '2026-11-28 01:25:11.895514+00', 'alice', NULL, 3, 6, '2026-11-28 01:25:12.033605+00', '2026-11-28 01:25:12.033605+00', NULL, 0, false, NULL, 'all', false, false, NULL, '2026-11-28 01:25:12.033605+00', '2026-11-28 01:25:12.033605+00', 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c6e-730c-98cb-7d92d5022825', 'ann', 'acme', 'member', '2026-11-28 01:25:11.917747+00', NULL, NULL, 2, 4, '2026-11-28 01:25:12.045321+00', '2026-11-28 01:25:12.045321+00', NULL, 0, false, NULL, 'all', false, false, NULL, '2026-11-28 01:25:12.045321+00', '2026-11-28 01:25:12.045321+00', 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c32-74f3-9a6d-3988cc855a0d', 'bob', 'demo', 'owner', '2026-11-28 01:25:11.857584+00', NULL, NULL, 2, 6, '2026-11-28 01:25:12.056773+00', '2026-11-28 01:25:12.056773+00', NULL, 0, false, NULL, 'all', false, false, NULL, '2026-11-28 01:25:12.056773+00', '2026-11-28 01:25:12.056773+00', 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 'alice', 'demo', 'owner', '2026-11-28 01:25:11.841228+00', NULL, NULL, 2, 14, '2026-11-28 01:25:12.166804+00', '2026-11-28 01:25:12.166804+00', NULL, 0, false, NULL, 'all', false, false, NULL, '2026-11-28 01:25:12.166804+00', '2026-11-28 01:25:12.166804+00', 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 'alice', 'demo', 'member', '2026-11-28 01:25:11.816806+00', NULL, NULL, 2, 5, '2026-11-28 01:25:12.209085+00', '2026-11-28 01:25:12.209085+00', NULL, 0, false, NULL, 'all', false, false, NULL, '2026-11-28 01:25:12.209085+00', '2026-11-28 01:25:12.209085+00', 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c3b-7333-89bd-b7b1bb55c5ac', 'bob', 'demo', 'member', '2026-11-28 01:25:12.259802+00', NULL, '2026-11-28 01:25:12.272826+00', 7, 4, NULL, NULL, NULL, 0, false, NULL, 'all', false, false, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 'bob', 'demo', 'member', '2026-11-28 01:25:11.816806+00', 'alice', NULL, 3, 0, NULL, NULL, NULL, 0, false, NULL, 'all', true, false, 'Dear Alice', '2026-11-28 01:25:12.309798+00', NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 'bob', 'demo', 'member', '2026-11-28 01:25:11.841228+00', 'alice', NULL, 3, 14, '2026-11-28 01:25:12.317671+00', '2026-11-28 01:25:12.100277+00', NULL, 0, false, NULL, 'all', false, false, NULL, '2026-11-28 01:25:12.317671+00', '2026-11-28 01:25:12.317671+00', 0);

INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 5, 5, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.841228+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "chat_created", "actor": "alice", "detail": "Walk", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 6, 6, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.841228+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "welcome", "actor": "alice", "detail": "Walk", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c32-74f3-9a6d-3988cc855a0d', 4, 4, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.857584+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "chat_created", "actor": "bob", "detail": "Talk", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c32-74f3-9a6d-3988cc855a0d', 5, 5, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.857584+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "welcome", "actor": "bob", "detail": "Talk", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c3b-7333-89bd-b7b1bb55c5ac', 3, 3, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.867127+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "chat_created", "actor": "alice", "detail": "News", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c3b-7333-89bd-b7b1bb55c5ac', 4, 4, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.867127+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "welcome", "actor": "alice", "detail": "News", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c58-7193-9879-3081ab721124', 4, 4, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.895514+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "chat_created", "actor": "alice", "detail": "Ticket 7", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c58-7193-9879-3081ab721124', 5, 5, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.895514+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "welcome", "actor": "alice", "detail": "Ticket 7", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c82-74a3-9553-d34e2d87323b', 4, 4, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.938331+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "chat_created", "actor": "ann", "detail": "Walk of Acme", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c82-74a3-9553-d34e2d87323b', 5, 5, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:11.938331+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "welcome", "actor": "ann", "detail": "Walk of Acme", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 4, 4, 'text', 'alice', 'direct', '\x0fc572606ecdec8706c7694a13adeec2', 'between the two', NULL, '2026-11-28 01:25:11.975804+00', NULL, NULL, NULL, true, 0, false, NULL, NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c15-756a-872a-2b209a8a6336', 3, 3, 'text', 'alice', NULL, NULL, 'for myself', NULL, '2026-11-28 01:25:12.018466+00', NULL, NULL, NULL, true, 0, false, NULL, NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c58-7193-9879-3081ab721124', 6, 6, 'text', 'carol', NULL, NULL, 'about the ticket', NULL, '2026-11-28 01:25:12.033605+00', NULL, NULL, NULL, true, 0, false, NULL, NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c6e-730c-98cb-7d92d5022825', 4, 4, 'text', 'ann', NULL, NULL, 'at another organisation', NULL, '2026-11-28 01:25:12.045321+00', NULL, NULL, NULL, true, 0, false, NULL, NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c32-74f3-9a6d-3988cc855a0d', 6, 6, 'text', 'bob', NULL, NULL, 'without a nonce', NULL, '2026-11-28 01:25:12.056773+00', NULL, NULL, NULL, true, 0, false, NULL, NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 9, 9, 'text', 'bob', NULL, NULL, 'in a thread', NULL, '2026-11-28 01:25:12.100277+00', NULL, NULL, 7, false, 0, false, NULL, NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 7, 12, 'text', 'alice', NULL, NULL, 'Hello to all', NULL, '2026-11-28 01:25:12.068713+00', '2026-11-28 01:25:12.084792+00', NULL, NULL, true, 1, false, NULL, '2026-11-28 01:25:12.154864+00', 'alice');
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 13, 13, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.154864+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "message_pinned", "actor": "alice", "detail": "msg_AaIfwZwhciGJDlFjNHDMcgAAAAAAAAAH", "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 14, 15, 'poll', 'alice', NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.166804+00', NULL, NULL, NULL, true, 0, false, '{"poll": {"options": ["now", "later"], "question": "When?", "anonymous": false, "closed_at": null, "closes_at": null, "multiple_choice": false}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 5, 5, 'text', 'alice', NULL, NULL, 'Hello to all', NULL, '2026-11-28 01:25:12.209085+00', NULL, NULL, NULL, true, 0, false, '{"forwarded": {"sender": "alice", "sent_at": "2026-11-28T01:25:12.068713Z", "chat_title": "Walk"}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c3b-7333-89bd-b7b1bb55c5ac', 6, 6, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.259802+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "member_added", "actor": "bob", "detail": null, "subject": "bob"}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c3b-7333-89bd-b7b1bb55c5ac', 8, 8, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.272826+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"kind": "member_removed", "actor": "alice", "detail": "BANNED", "subject": "bob"}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 6, 6, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.333642+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"call": {"call": "01a21fc1-9e12-7735-9d79-f247bc04f2af", "chat": "01a21fc1-9c09-77f1-abd0-c06c233c5cff"}, "kind": "call_started", "actor": "alice", "detail": null, "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 8, 8, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.384021+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"call": {"call": "01a21fc1-9e12-7735-9d79-f247bc04f2af", "chat": "01a21fc1-9c09-77f1-abd0-c06c233c5cff"}, "kind": "call_ended", "actor": "alice", "detail": null, "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 10, 10, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.409137+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"call": {"call": "01a21fc1-9e5c-70c7-9576-424e71c2ef9a", "chat": "01a21fc1-9c09-77f1-abd0-c06c233c5cff"}, "kind": "call_started", "actor": "alice", "detail": null, "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 12, 12, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.423044+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"call": {"call": "01a21fc1-9e5c-70c7-9576-424e71c2ef9a", "chat": "01a21fc1-9c09-77f1-abd0-c06c233c5cff"}, "kind": "call_missed", "actor": "alice", "detail": null, "subject": null}}', NULL, NULL);
INSERT INTO messages (chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 16, 16, 'system', NULL, NULL, NULL, NULL, NULL, '2026-11-28 01:25:12.441301+00', NULL, NULL, NULL, true, 0, false, '{"notice": {"call": {"call": "01a21fc1-9e7e-766c-baf3-dbcd8da7d504", "chat": "01a21fc1-9c21-7221-890e-51633470cc72"}, "kind": "call_started", "actor": "alice", "detail": null, "subject": null}}', NULL, NULL);

INSERT INTO revisions (chat_id, seq, version, text, edited_at)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 7, 7, 'Hello everybody', '2026-11-28 01:25:12.084792+00');

INSERT INTO reactions (chat_id, seq, emoji, user_id, created_at)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 7, '👍', 'carol', '2026-11-28 01:25:12.127603+00');

INSERT INTO mentions (chat_id, user_id, seq, thread_root_seq)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 'bob', 7, NULL);
INSERT INTO mentions (chat_id, user_id, seq, thread_root_seq)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 'carol', 9, 7);

INSERT INTO thread_members (chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq, marked_read_at)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 7, 'alice', true, 0, 8, NULL);
INSERT INTO thread_members (chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq, marked_read_at)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 7, 'carol', true, 0, 8, NULL);
INSERT INTO thread_members (chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq, marked_read_at)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 7, 'bob', true, 9, 9, NULL);

INSERT INTO votes (chat_id, seq, option, user_id, created_at)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 14, 1, 'bob', '2026-11-28 01:25:12.196587+00');

INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9c22-733e-ad6e-a3acc9c1b4c4', 'demo', 'carol', 'added_to_chat', '01a21fc1-9c21-7221-890e-51633470cc72', NULL, 'alice', '2026-11-28 01:25:11.841228+00', NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9c32-74f3-9a6d-398901a1cf18', 'demo', 'alice', 'added_to_chat', '01a21fc1-9c32-74f3-9a6d-3988cc855a0d', NULL, 'bob', '2026-11-28 01:25:11.857584+00', NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9c83-7540-8fa3-4c375325bed9', 'acme', 'ben', 'added_to_chat', '01a21fc1-9c82-74a3-9553-d34e2d87323b', NULL, 'ann', '2026-11-28 01:25:11.938331+00', NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9c58-7193-9879-3082b2ff7102', 'demo', 'carol', 'added_to_chat', '01a21fc1-9c58-7193-9879-3081ab721124', NULL, 'alice', '2026-11-28 01:25:11.895514+00', '2026-11-28 01:25:12.033605+00', NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9d2a-7370-907d-4faba0bb02ff', 'demo', 'carol', 'mention', '01a21fc1-9c21-7221-890e-51633470cc72', 9, 'bob', '2026-11-28 01:25:12.100277+00', NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9d2a-7370-907d-4facac84ce06', 'demo', 'alice', 'reply', '01a21fc1-9c21-7221-890e-51633470cc72', 9, 'bob', '2026-11-28 01:25:12.100277+00', NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9d4c-74a5-8a78-81353b9a9892', 'demo', 'alice', 'reaction', '01a21fc1-9c21-7221-890e-51633470cc72', 7, 'carol', '2026-11-28 01:25:12.127603+00', '2026-11-28 01:25:12.166804+00', NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9c22-733e-ad6e-a3abff710701', 'demo', 'bob', 'added_to_chat', '01a21fc1-9c21-7221-890e-51633470cc72', NULL, 'alice', '2026-11-28 01:25:11.841228+00', '2026-11-28 01:25:12.317671+00', NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9d07-7769-99d1-31e4c70ecc03', 'demo', 'bob', 'mention', '01a21fc1-9c21-7221-890e-51633470cc72', 7, 'alice', '2026-11-28 01:25:12.068713+00', '2026-11-28 01:25:12.317671+00', NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES ('01a21fc1-9e6e-7500-9bf1-3f1a99929854', 'demo', 'bob', 'missed_call', '01a21fc1-9c09-77f1-abd0-c06c233c5cff', 12, 'alice', '2026-11-28 01:25:12.423044+00', NULL, '01a21fc1-9e5c-70c7-9576-424e71c2ef9a');

INSERT INTO reports (id, organization_id, chat_id, seq, reporter_id, reason, text, created_at, resolved_at, resolved_by, resolution)
VALUES ('01a21fc1-9daa-7038-8824-cf79fc885e9e', 'demo', '01a21fc1-9c21-7221-890e-51633470cc72', 7, 'bob', 'Not nice', 'Hello to all', '2026-11-28 01:25:12.231741+00', NULL, NULL, NULL);

INSERT INTO blocked_words (organization_id, word, action)
VALUES ('demo', 'spam', 'reject');

INSERT INTO chat_bans (organization_id, chat_id, user_id, banned_by, banned_at, reason)
VALUES ('demo', '01a21fc1-9c3b-7333-89bd-b7b1bb55c5ac', 'bob', 'alice', '2026-11-28 01:25:12.272826+00', 'Spam');

INSERT INTO removals (organization_id, user_id, removed_at, chat_id)
VALUES ('demo', 'alice', '2026-11-28 01:25:12.294149+00', '01a21fc1-9c45-70bf-8914-9d643cf2bab8');
INSERT INTO removals (organization_id, user_id, removed_at, chat_id)
VALUES ('demo', 'bob', '2026-11-28 01:25:12.294149+00', '01a21fc1-9c45-70bf-8914-9d643cf2bab8');

INSERT INTO calls (id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at, alone_since, ended_at, end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes, host_id)
VALUES ('01a21fc1-9e12-7735-9d79-f247bc04f2af', 'demo', '01a21fc1-9c09-77f1-abd0-c06c233c5cff', 'audio', 'alice', '2026-11-28 01:25:12.333642+00', '2026-11-28 01:25:57.333642+00', '2026-11-28 01:25:12.365713+00', NULL, '2026-11-28 01:25:12.384021+00', 'completed', 18, NULL, 8, 8, '2026-11-28 01:25:12.384021+00', 8, 0, 'alice');
INSERT INTO calls (id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at, alone_since, ended_at, end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes, host_id)
VALUES ('01a21fc1-9e5c-70c7-9576-424e71c2ef9a', 'demo', '01a21fc1-9c09-77f1-abd0-c06c233c5cff', 'audio', 'alice', '2026-11-28 01:25:12.409137+00', '2026-11-28 01:25:57.409137+00', NULL, NULL, '2026-11-28 01:25:12.423044+00', 'cancelled', 0, NULL, 6, 6, '2026-11-28 01:25:12.423044+00', 6, 0, 'alice');
INSERT INTO calls (id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at, alone_since, ended_at, end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes, host_id)
VALUES ('01a21fc1-9e7e-766c-baf3-dbcd8da7d504', 'demo', '01a21fc1-9c21-7221-890e-51633470cc72', 'audio', 'alice', '2026-11-28 01:25:12.441301+00', '2026-11-28 01:25:57.441301+00', '2026-11-28 01:25:12.460915+00', NULL, NULL, NULL, 0, '2026-11-28 01:25:57.441301+00', 7, 6, '2026-11-28 01:25:12.460915+00', 0, 32, 'alice');

INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES ('01a21fc1-9e12-7735-9d79-f247bc04f2af', 'alice', 'demo', 0, 'phone', 'left', '2026-11-28 01:25:12.333642+00', '2026-11-28 01:25:12.384021+00', true, false, false, 6, 2, 0, NULL, false, 0, 0, 0, 0, 1, NULL, NULL, NULL, false);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES ('01a21fc1-9e12-7735-9d79-f247bc04f2af', 'bob', 'demo', 1, 'laptop', 'left', '2026-11-28 01:25:12.365713+00', '2026-11-28 01:25:12.384021+00', false, false, false, 7, 4, 0, NULL, false, 0, 0, 0, 0, 1, NULL, NULL, NULL, false);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES ('01a21fc1-9e5c-70c7-9576-424e71c2ef9a', 'alice', 'demo', 0, 'phone', 'left', '2026-11-28 01:25:12.409137+00', '2026-11-28 01:25:12.423044+00', true, false, false, 5, 2, 0, NULL, false, 0, 0, 0, 0, 1, NULL, NULL, NULL, false);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES ('01a21fc1-9e5c-70c7-9576-424e71c2ef9a', 'bob', 'demo', 1, '', 'missed', NULL, NULL, false, false, false, 4, 0, 0, NULL, false, 0, 0, 0, 0, 0, NULL, NULL, NULL, false);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES ('01a21fc1-9e7e-766c-baf3-dbcd8da7d504', 'alice', 'demo', 0, 'phone', 'joined', '2026-11-28 01:25:12.441301+00', NULL, true, false, false, 2, 2, 0, '2026-11-28 01:26:12.441301+00', false, 0, 0, 0, 0, 1, NULL, NULL, NULL, false);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES ('01a21fc1-9e7e-766c-baf3-dbcd8da7d504', 'carol', 'demo', 2, '', 'ringing', NULL, NULL, false, false, false, 4, 0, 0, NULL, false, 0, 0, 0, 0, 0, NULL, NULL, NULL, false);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES ('01a21fc1-9e7e-766c-baf3-dbcd8da7d504', 'bob', 'demo', 1, 'laptop', 'joined', '2026-11-28 01:25:12.460915+00', NULL, false, false, false, 5, 5, 0, '2026-11-28 01:26:12.460915+00', false, 0, 0, 0, 0, 1, NULL, NULL, NULL, false);

INSERT INTO call_signals (call_id, version, from_id, to_id, kind, payload, bytes, nonce, fingerprint)
VALUES ('01a21fc1-9e7e-766c-baf3-dbcd8da7d504', 7, 'alice', 'bob', 'offer', '{"sdp": "v=0\r\n", "type": "offer"}', 32, 'offer', '\x5a2ede486362f4a29f0804443fec72d7');

INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 4, '''2a97516c354bbetween'':1 ''2a97516c354bthe'':2 ''2a97516c354btwo'':3');
INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c15-756a-872a-2b209a8a6336', 3, '''2a97516c354bfor'':1 ''2a97516c354bmyself'':2');
INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c58-7193-9879-3081ab721124', 6, '''2a97516c354babout'':1 ''2a97516c354bthe'':2 ''2a97516c354bticket'':3');
INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c6e-730c-98cb-7d92d5022825', 4, '''822b33ad87c1another'':2 ''822b33ad87c1at'':1 ''822b33ad87c1organisation'':3');
INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c32-74f3-9a6d-3988cc855a0d', 6, '''2a97516c354ba'':2 ''2a97516c354bnonce'':3 ''2a97516c354bwithout'':1');
INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 7, '''2a97516c354ball'':3 ''2a97516c354bhello'':1 ''2a97516c354bto'':2');
INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 9, '''2a97516c354ba'':2 ''2a97516c354bin'':1 ''2a97516c354bthread'':3');
INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c21-7221-890e-51633470cc72', 14, '''2a97516c354b'':2,4 ''2a97516c354blater'':5 ''2a97516c354bnow'':3 ''2a97516c354bwhen'':1');
INSERT INTO message_words (chat_id, seq, words)
VALUES ('01a21fc1-9c09-77f1-abd0-c06c233c5cff', 5, '''2a97516c354ball'':3 ''2a97516c354bhello'':1 ''2a97516c354bto'':2');
