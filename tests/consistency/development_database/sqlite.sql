-- The rows of a SQLite database that a server wrote before buckets, when the last migration was 15. Its chats are a direct
-- chat of Alice and Bob, Alice's own notes, the group "Walk" with the nonce "walk", the group "Talk" without a nonce, the
-- channel "News", the chat of the resource ticket 7, and two chats of another organisation.

DELETE FROM search_reindexing;

INSERT INTO organizations (id, created_at)
VALUES ('demo', 1795829100727892);
INSERT INTO organizations (id, created_at)
VALUES ('acme', 1795829100749876);

INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('demo', 'alice', 'Alice', 'alice', NULL, 1795829100727892, NULL, NULL, 1000000, 4000000030000000, 'alice');
INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('demo', 'bob', 'Bob', 'bob', NULL, 1795829100735058, NULL, NULL, 1000000, 4000000030000000, 'bob');
INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('demo', 'carol', 'Carol', 'carol', NULL, 1795829100742674, NULL, NULL, 1000000, 4000000030000000, 'carol');
INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('acme', 'ann', 'Ann', 'ann', NULL, 1795829100749876, NULL, NULL, 1000000, 4000000030000000, 'ann');
INSERT INTO users (organization_id, id, name, name_folded, avatar_url, created_at, last_seen_at, revoked_before, token_issued_at, token_expires_at, name_search)
VALUES ('acme', 'ben', 'Ben', 'ben', NULL, 1795829100753433, NULL, NULL, 1000000, 4000000030000000, 'ben');

INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES (X'01A21FC170D670FA937F6FC2B7871F19', 'demo', 'direct', NULL, NULL, NULL, NULL, NULL, X'0C', 0, 'alice', 1795829100758626, 1795829100923552, 13, 13, 12, 2, 'alice
bob', NULL, NULL, NULL, NULL, NULL, 1795829101052812, 5, 'all', NULL);
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES (X'01A21FC170DB71F48C64C5FEDBBFAF2D', 'demo', 'direct', NULL, NULL, NULL, NULL, NULL, X'0C', 0, 'alice', 1795829100763317, 1795829100822926, 3, 1, 3, 1, 'alice
alice', NULL, NULL, NULL, NULL, NULL, 1795829100822926, 3, 'all', NULL);
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES (X'01A21FC170E372248D64F03E01E47450', 'demo', 'group', NULL, 'Walk', 'walk', NULL, NULL, X'0C', 0, 'alice', 1795829100771553, 1795829100899319, 17, 17, 16, 3, NULL, 'walk', X'BDF8CA4AF5771342B375605676C66FD9', NULL, NULL, NULL, 1795829101063344, 14, 'all', 'walk');
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES (X'01A21FC170EA728FAE2E84BA5CD5C90E', 'demo', 'group', NULL, 'Talk', 'talk', NULL, NULL, X'0C', 0, 'bob', 1795829100778726, 1795829100847037, 6, 1, 6, 2, NULL, NULL, NULL, NULL, NULL, NULL, 1795829100847037, 6, 'all', 'talk');
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES (X'01A21FC170F1752AA4A92FD1FDB55FD3', 'demo', 'channel', NULL, 'News', 'news', NULL, NULL, X'0C', 0, 'alice', 1795829100785277, 1795829100785277, 9, 9, 8, 1, NULL, NULL, NULL, NULL, NULL, NULL, 1795829100959948, 0, 'all', 'news');
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES (X'01A21FC170FF749E83BAE1585687C553', 'demo', 'group', NULL, 'Ticket 7', 'ticket 7', NULL, NULL, X'0C', 0, 'alice', 1795829100799318, 1795829100830709, 6, 1, 6, 2, NULL, NULL, NULL, NULL, 'ticket', '7', 1795829100830709, 6, 'all', 'ticket 7');
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES (X'01A21FC17103772FBA27B5418E85CF84', 'acme', 'direct', NULL, NULL, NULL, NULL, NULL, X'0C', 0, 'ann', 1795829100803719, 1795829100837584, 4, 1, 4, 2, 'ann
ben', NULL, NULL, NULL, NULL, NULL, 1795829100837584, 4, 'all', NULL);
INSERT INTO chats (id, organization_id, kind, category, title, title_folded, description, avatar_url, policy, slow_mode_seconds, created_by, created_at, last_activity_at, version, details_version, last_seq, member_count, direct_key, nonce, fingerprint, archived_at, resource_type, resource_id, changed_at, last_message_seq, history_for_new_members, title_search)
VALUES (X'01A21FC17107751DAC35B464448FD094', 'acme', 'group', NULL, 'Walk of Acme', 'walk of acme', NULL, NULL, X'0C', 0, 'ann', 1795829100807796, 1795829100807796, 5, 1, 5, 2, NULL, 'walk', X'91AF019C7D39D6064E5D95107BC36E05', NULL, NULL, NULL, 1795829100807796, 0, 'all', 'walk of acme');

INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170D670FA937F6FC2B7871F19', 'alice', 'demo', 'member', 1795829100758626, NULL, NULL, 2, 5, 1795829100923552, 1795829100923552, NULL, 0, 0, NULL, 'all', 0, 0, NULL, 1795829100923552, 1795829100923552, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170D670FA937F6FC2B7871F19', 'bob', 'demo', 'member', 1795829100758626, 'alice', NULL, 3, 0, NULL, NULL, NULL, 0, 0, NULL, 'all', 1, 0, 'Dear Alice', 1795829100981249, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170DB71F48C64C5FEDBBFAF2D', 'alice', 'demo', 'member', 1795829100763317, NULL, NULL, 2, 3, 1795829100822926, 1795829100822926, NULL, 0, 0, NULL, 'all', 0, 0, NULL, 1795829100822926, 1795829100822926, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170E372248D64F03E01E47450', 'alice', 'demo', 'owner', 1795829100771553, NULL, NULL, 2, 14, 1795829100899319, 1795829100899319, NULL, 0, 0, NULL, 'all', 0, 0, NULL, 1795829100899319, 1795829100899319, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170E372248D64F03E01E47450', 'bob', 'demo', 'member', 1795829100771553, 'alice', NULL, 3, 14, 1795829100986077, 1795829100871195, NULL, 0, 0, NULL, 'all', 0, 0, NULL, 1795829100986077, 1795829100986077, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170E372248D64F03E01E47450', 'carol', 'demo', 'member', 1795829100771553, 'alice', NULL, 4, 6, NULL, NULL, NULL, 0, 0, NULL, 'all', 0, 0, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170EA728FAE2E84BA5CD5C90E', 'alice', 'demo', 'member', 1795829100778726, 'bob', NULL, 3, 5, NULL, NULL, NULL, 0, 0, NULL, 'all', 0, 0, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170EA728FAE2E84BA5CD5C90E', 'bob', 'demo', 'owner', 1795829100778726, NULL, NULL, 2, 6, 1795829100847037, 1795829100847037, NULL, 0, 0, NULL, 'all', 0, 0, NULL, 1795829100847037, 1795829100847037, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170F1752AA4A92FD1FDB55FD3', 'alice', 'demo', 'owner', 1795829100785277, NULL, NULL, 2, 4, NULL, NULL, NULL, 0, 0, NULL, 'all', 0, 0, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170F1752AA4A92FD1FDB55FD3', 'bob', 'demo', 'member', 1795829100951654, NULL, 1795829100959948, 7, 4, NULL, NULL, NULL, 0, 0, NULL, 'all', 0, 0, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170FF749E83BAE1585687C553', 'alice', 'demo', 'owner', 1795829100799318, NULL, NULL, 2, 5, NULL, NULL, NULL, 0, 0, NULL, 'all', 0, 0, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC170FF749E83BAE1585687C553', 'carol', 'demo', 'member', 1795829100799318, 'alice', NULL, 3, 6, 1795829100830709, 1795829100830709, NULL, 0, 0, NULL, 'all', 0, 0, NULL, 1795829100830709, 1795829100830709, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC17103772FBA27B5418E85CF84', 'ann', 'acme', 'member', 1795829100803719, NULL, NULL, 2, 4, 1795829100837584, 1795829100837584, NULL, 0, 0, NULL, 'all', 0, 0, NULL, 1795829100837584, 1795829100837584, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC17103772FBA27B5418E85CF84', 'ben', 'acme', 'member', 1795829100803719, 'ann', NULL, 3, 0, NULL, NULL, NULL, 0, 0, NULL, 'all', 0, 0, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC17107751DAC35B464448FD094', 'ann', 'acme', 'owner', 1795829100807796, NULL, NULL, 2, 5, NULL, NULL, NULL, 0, 0, NULL, 'all', 0, 0, NULL, NULL, NULL, 0);
INSERT INTO members (chat_id, user_id, organization_id, role, joined_at, added_by, left_at, version, last_read_seq, last_read_at, last_posted_at, silenced_until, last_delivered_seq, read_privately, muted_until, notification_level, pinned, marked_unread, draft, moved_at, shown_at, history_after_seq)
VALUES (X'01A21FC17107751DAC35B464448FD094', 'ben', 'acme', 'member', 1795829100807796, 'ann', NULL, 3, 5, NULL, NULL, NULL, 0, 0, NULL, 'all', 0, 0, NULL, NULL, NULL, 0);

INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (1, X'01A21FC170E372248D64F03E01E47450', 5, 5, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100771553, NULL, NULL, NULL, 1, 0, 0, X'CC3D676E6F74696365CC34576163746F7257616C6963656764657461696C4757616C6B476B696E64C70C636861745F63726561746564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (2, X'01A21FC170E372248D64F03E01E47450', 6, 6, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100771553, NULL, NULL, NULL, 1, 0, 0, X'CC37676E6F74696365CC2E576163746F7257616C6963656764657461696C4757616C6B476B696E647777656C636F6D65777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (3, X'01A21FC170EA728FAE2E84BA5CD5C90E', 4, 4, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100778726, NULL, NULL, NULL, 1, 0, 0, X'CC3B676E6F74696365CC32576163746F7237626F626764657461696C4754616C6B476B696E64C70C636861745F63726561746564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (4, X'01A21FC170EA728FAE2E84BA5CD5C90E', 5, 5, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100778726, NULL, NULL, NULL, 1, 0, 0, X'CC35676E6F74696365CC2C576163746F7237626F626764657461696C4754616C6B476B696E647777656C636F6D65777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (5, X'01A21FC170F1752AA4A92FD1FDB55FD3', 3, 3, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100785277, NULL, NULL, NULL, 1, 0, 0, X'CC3D676E6F74696365CC34576163746F7257616C6963656764657461696C474E657773476B696E64C70C636861745F63726561746564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (6, X'01A21FC170F1752AA4A92FD1FDB55FD3', 4, 4, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100785277, NULL, NULL, NULL, 1, 0, 0, X'CC37676E6F74696365CC2E576163746F7257616C6963656764657461696C474E657773476B696E647777656C636F6D65777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (9, X'01A21FC170FF749E83BAE1585687C553', 4, 4, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100799318, NULL, NULL, NULL, 1, 0, 0, X'CC41676E6F74696365CC38576163746F7257616C6963656764657461696C875469636B65742037476B696E64C70C636861745F63726561746564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (10, X'01A21FC170FF749E83BAE1585687C553', 5, 5, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100799318, NULL, NULL, NULL, 1, 0, 0, X'CC3B676E6F74696365CC32576163746F7257616C6963656764657461696C875469636B65742037476B696E647777656C636F6D65777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (11, X'01A21FC17107751DAC35B464448FD094', 4, 4, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100807796, NULL, NULL, NULL, 1, 0, 0, X'CC44676E6F74696365CC3B576163746F7237616E6E6764657461696CC70C57616C6B206F662041636D65476B696E64C70C636861745F63726561746564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (12, X'01A21FC17107751DAC35B464448FD094', 5, 5, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100807796, NULL, NULL, NULL, 1, 0, 0, X'CC3E676E6F74696365CC35576163746F7237616E6E6764657461696CC70C57616C6B206F662041636D65476B696E647777656C636F6D65777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (13, X'01A21FC170D670FA937F6FC2B7871F19', 4, 4, 'text', 'alice', 'direct', X'0FC572606ECDEC8706C7694A13ADEEC2', 'between the two', NULL, 1795829100817090, NULL, NULL, NULL, 1, 0, 0, NULL, NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (14, X'01A21FC170DB71F48C64C5FEDBBFAF2D', 3, 3, 'text', 'alice', NULL, NULL, 'for myself', NULL, 1795829100822926, NULL, NULL, NULL, 1, 0, 0, NULL, NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (15, X'01A21FC170FF749E83BAE1585687C553', 6, 6, 'text', 'carol', NULL, NULL, 'about the ticket', NULL, 1795829100830709, NULL, NULL, NULL, 1, 0, 0, NULL, NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (16, X'01A21FC17103772FBA27B5418E85CF84', 4, 4, 'text', 'ann', NULL, NULL, 'at another organisation', NULL, 1795829100837584, NULL, NULL, NULL, 1, 0, 0, NULL, NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (17, X'01A21FC170EA728FAE2E84BA5CD5C90E', 6, 6, 'text', 'bob', NULL, NULL, 'without a nonce', NULL, 1795829100847037, NULL, NULL, NULL, 1, 0, 0, NULL, NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (18, X'01A21FC170E372248D64F03E01E47450', 7, 12, 'text', 'alice', NULL, NULL, 'Hello to all', NULL, 1795829100853734, 1795829100864366, NULL, NULL, 1, 1, 0, NULL, 1795829100889597, 'alice');
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (19, X'01A21FC170E372248D64F03E01E47450', 9, 9, 'text', 'bob', NULL, NULL, 'in a thread', NULL, 1795829100871195, NULL, NULL, 7, 0, 0, 0, NULL, NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (20, X'01A21FC170E372248D64F03E01E47450', 13, 13, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100889597, NULL, NULL, NULL, 1, 0, 0, X'CC60676E6F74696365CC57576163746F7257616C6963656764657461696CC7246D73675F416149667758446A6369534E5A50412D41655230554141414141414141414148476B696E64C70E6D6573736167655F70696E6E6564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (21, X'01A21FC170E372248D64F03E01E47450', 14, 15, 'poll', 'alice', NULL, NULL, NULL, NULL, 1795829100899319, NULL, NULL, NULL, 1, 0, 0, X'CC5C47706F6C6CCC5597616E6F6E796D6F75730297636C6F7365645F61740097636C6F7365735F617400C70F6D756C7469706C655F63686F69636502776F7074696F6E73AB376E6F77576C61746572877175657374696F6E575768656E3F', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (22, X'01A21FC170D670FA937F6FC2B7871F19', 5, 5, 'text', 'alice', NULL, NULL, 'Hello to all', NULL, 1795829100923552, NULL, NULL, NULL, 1, 0, 0, X'CC4E97666F72776172646564CC42A7636861745F7469746C654757616C6B6773656E64657257616C6963657773656E745F6174C71B323032362D31312D32385430313A32353A30302E3835333733345A', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (23, X'01A21FC170F1752AA4A92FD1FDB55FD3', 6, 6, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100951654, NULL, NULL, NULL, 1, 0, 0, X'CC3A676E6F74696365CC31576163746F7237626F626764657461696C00476B696E64C70C6D656D6265725F6164646564777375626A65637437626F62', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (24, X'01A21FC170F1752AA4A92FD1FDB55FD3', 8, 8, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100959948, NULL, NULL, NULL, 1, 0, 0, X'CC44676E6F74696365CC3B576163746F7257616C6963656764657461696C6742414E4E4544476B696E64C70E6D656D6265725F72656D6F766564777375626A65637437626F62', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (25, X'01A21FC170D670FA937F6FC2B7871F19', 6, 6, 'system', NULL, NULL, NULL, NULL, NULL, 1795829100998857, NULL, NULL, NULL, 1, 0, 0, X'CC96676E6F74696365CC8D576163746F7257616C6963654763616C6CCC564763616C6CC72430316132316663312D373163382D373633392D383366332D3330353030383363653439614763686174C72430316132316663312D373064362D373066612D393337662D3666633262373837316631396764657461696C00476B696E64C70C63616C6C5F73746172746564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (26, X'01A21FC170D670FA937F6FC2B7871F19', 8, 8, 'system', NULL, NULL, NULL, NULL, NULL, 1795829101020066, NULL, NULL, NULL, 1, 0, 0, X'CC93676E6F74696365CC8A576163746F7257616C6963654763616C6CCC564763616C6CC72430316132316663312D373163382D373633392D383366332D3330353030383363653439614763686174C72430316132316663312D373064362D373066612D393337662D3666633262373837316631396764657461696C00476B696E64A763616C6C5F656E646564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (27, X'01A21FC170D670FA937F6FC2B7871F19', 10, 10, 'system', NULL, NULL, NULL, NULL, NULL, 1795829101037563, NULL, NULL, NULL, 1, 0, 0, X'CC96676E6F74696365CC8D576163746F7257616C6963654763616C6CCC564763616C6CC72430316132316663312D373165652D373664342D626634392D3634656635363531663363304763686174C72430316132316663312D373064362D373066612D393337662D3666633262373837316631396764657461696C00476B696E64C70C63616C6C5F73746172746564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (28, X'01A21FC170D670FA937F6FC2B7871F19', 12, 12, 'system', NULL, NULL, NULL, NULL, NULL, 1795829101052812, NULL, NULL, NULL, 1, 0, 0, X'CC94676E6F74696365CC8B576163746F7257616C6963654763616C6CCC564763616C6CC72430316132316663312D373165652D373664342D626634392D3634656635363531663363304763686174C72430316132316663312D373064362D373066612D393337662D3666633262373837316631396764657461696C00476B696E64B763616C6C5F6D6973736564777375626A65637400', NULL, NULL);
INSERT INTO messages (pk, chat_id, seq, version, kind, sender_id, nonce, fingerprint, text, reply_to_seq, created_at, edited_at, deleted_at, thread_root_seq, in_timeline, reply_count, mentions_everyone, content, pinned_at, pinned_by)
VALUES (29, X'01A21FC170E372248D64F03E01E47450', 16, 16, 'system', NULL, NULL, NULL, NULL, NULL, 1795829101063344, NULL, NULL, NULL, 1, 0, 0, X'CC96676E6F74696365CC8D576163746F7257616C6963654763616C6CCC564763616C6CC72430316132316663312D373230382D373331652D393664352D3865636539616135323765374763686174C72430316132316663312D373065332D373232342D386436342D6630336530316534373435306764657461696C00476B696E64C70C63616C6C5F73746172746564777375626A65637400', NULL, NULL);

INSERT INTO revisions (chat_id, seq, version, text, edited_at)
VALUES (X'01A21FC170E372248D64F03E01E47450', 7, 7, 'Hello everybody', 1795829100864366);

INSERT INTO reactions (chat_id, seq, emoji, user_id, created_at)
VALUES (X'01A21FC170E372248D64F03E01E47450', 7, '👍', 'carol', 1795829100881372);

INSERT INTO mentions (chat_id, user_id, seq, thread_root_seq)
VALUES (X'01A21FC170E372248D64F03E01E47450', 'bob', 7, NULL);
INSERT INTO mentions (chat_id, user_id, seq, thread_root_seq)
VALUES (X'01A21FC170E372248D64F03E01E47450', 'carol', 9, 7);

INSERT INTO thread_members (chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq, marked_read_at)
VALUES (X'01A21FC170E372248D64F03E01E47450', 7, 'alice', 1, 0, 8, NULL);
INSERT INTO thread_members (chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq, marked_read_at)
VALUES (X'01A21FC170E372248D64F03E01E47450', 7, 'bob', 1, 9, 9, NULL);
INSERT INTO thread_members (chat_id, root_seq, user_id, is_following, last_read_seq, follows_after_seq, marked_read_at)
VALUES (X'01A21FC170E372248D64F03E01E47450', 7, 'carol', 1, 0, 8, NULL);

INSERT INTO votes (chat_id, seq, option, user_id, created_at)
VALUES (X'01A21FC170E372248D64F03E01E47450', 14, 1, 'bob', 1795829100914064);

INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC170E372248D64F03F34681C2D', 'demo', 'bob', 'added_to_chat', X'01A21FC170E372248D64F03E01E47450', NULL, 'alice', 1795829100771553, 1795829100986077, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC170E372248D64F0404D676C30', 'demo', 'carol', 'added_to_chat', X'01A21FC170E372248D64F03E01E47450', NULL, 'alice', 1795829100771553, NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC170EB758BB130A7B74E04C672', 'demo', 'alice', 'added_to_chat', X'01A21FC170EA728FAE2E84BA5CD5C90E', NULL, 'bob', 1795829100778726, NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC170FF749E83BAE1595C8C7E12', 'demo', 'carol', 'added_to_chat', X'01A21FC170FF749E83BAE1585687C553', NULL, 'alice', 1795829100799318, 1795829100830709, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC1710C723D8B4A52134BF50BB4', 'acme', 'ben', 'added_to_chat', X'01A21FC17107751DAC35B464448FD094', NULL, 'ann', 1795829100807796, NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC1713677F7AED95436501C2951', 'demo', 'bob', 'mention', X'01A21FC170E372248D64F03E01E47450', 7, 'alice', 1795829100853734, 1795829100986077, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC171487122AE19B47B29E072EE', 'demo', 'carol', 'mention', X'01A21FC170E372248D64F03E01E47450', 9, 'bob', 1795829100871195, NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC171487122AE19B47CAF32E081', 'demo', 'alice', 'reply', X'01A21FC170E372248D64F03E01E47450', 9, 'bob', 1795829100871195, NULL, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC1715375A6B08FC63163E10D48', 'demo', 'alice', 'reaction', X'01A21FC170E372248D64F03E01E47450', 7, 'carol', 1795829100881372, 1795829100899319, NULL);
INSERT INTO notifications (id, organization_id, user_id, kind, chat_id, seq, actor_id, created_at, read_at, call_id)
VALUES (X'01A21FC17200712C851844E741E2D9C9', 'demo', 'bob', 'missed_call', X'01A21FC170D670FA937F6FC2B7871F19', 12, 'alice', 1795829101052812, NULL, X'01A21FC171EE76D4BF4964EF5651F3C0');

INSERT INTO reports (id, organization_id, chat_id, seq, reporter_id, reason, text, created_at, resolved_at, resolved_by, resolution)
VALUES (X'01A21FC17188715C87C4D4C60AB48013', 'demo', X'01A21FC170E372248D64F03E01E47450', 7, 'bob', 'Not nice', 'Hello to all', 1795829100936103, NULL, NULL, NULL);

INSERT INTO blocked_words (organization_id, word, action)
VALUES ('demo', 'spam', 'reject');

INSERT INTO chat_bans (organization_id, chat_id, user_id, banned_by, banned_at, reason)
VALUES ('demo', X'01A21FC170F1752AA4A92FD1FDB55FD3', 'bob', 'alice', 1795829100959948, 'Spam');

INSERT INTO removals (organization_id, user_id, removed_at, chat_id)
VALUES ('demo', 'alice', 1795829100971865, X'01A21FC170F676A2996CCA85B423EE21');
INSERT INTO removals (organization_id, user_id, removed_at, chat_id)
VALUES ('demo', 'bob', 1795829100971865, X'01A21FC170F676A2996CCA85B423EE21');

INSERT INTO calls (id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at, alone_since, ended_at, end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes, host_id)
VALUES (X'01A21FC171C8763983F33050083CE49A', 'demo', X'01A21FC170D670FA937F6FC2B7871F19', 'audio', 'alice', 1795829100998857, 1795829145998857, 1795829101012032, NULL, 1795829101020066, 'completed', 8, NULL, 8, 8, 1795829101020066, 8, 0, 'alice');
INSERT INTO calls (id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at, alone_since, ended_at, end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes, host_id)
VALUES (X'01A21FC171EE76D4BF4964EF5651F3C0', 'demo', X'01A21FC170D670FA937F6FC2B7871F19', 'audio', 'alice', 1795829101037563, 1795829146037563, NULL, NULL, 1795829101052812, 'cancelled', 0, NULL, 6, 6, 1795829101052812, 6, 0, 'alice');
INSERT INTO calls (id, organization_id, chat_id, kind, started_by, started_at, rings_until, answered_at, alone_since, ended_at, end_reason, talked, due_at, version, own_version, changed_at, forgotten, signal_bytes, host_id)
VALUES (X'01A21FC17208731E96D58ECE9AA527E7', 'demo', X'01A21FC170E372248D64F03E01E47450', 'audio', 'alice', 1795829101063344, 1795829146063344, 1795829101080024, NULL, NULL, NULL, 0, 1795829146063344, 7, 6, 1795829101080024, 0, 32, 'alice');

INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES (X'01A21FC171C8763983F33050083CE49A', 'alice', 'demo', 0, 'phone', 'left', 1795829100998857, 1795829101020066, 1, 0, 0, 6, 2, 0, NULL, 0, 0, 0.0, 0.0, 0.0, 1, NULL, NULL, NULL, 0);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES (X'01A21FC171C8763983F33050083CE49A', 'bob', 'demo', 1, 'laptop', 'left', 1795829101012032, 1795829101020066, 0, 0, 0, 7, 4, 0, NULL, 0, 0, 0.0, 0.0, 0.0, 1, NULL, NULL, NULL, 0);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES (X'01A21FC171EE76D4BF4964EF5651F3C0', 'alice', 'demo', 0, 'phone', 'left', 1795829101037563, 1795829101052812, 1, 0, 0, 5, 2, 0, NULL, 0, 0, 0.0, 0.0, 0.0, 1, NULL, NULL, NULL, 0);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES (X'01A21FC171EE76D4BF4964EF5651F3C0', 'bob', 'demo', 1, '', 'missed', NULL, NULL, 0, 0, 0, 4, 0, 0, NULL, 0, 0, 0.0, 0.0, 0.0, 0, NULL, NULL, NULL, 0);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES (X'01A21FC17208731E96D58ECE9AA527E7', 'alice', 'demo', 0, 'phone', 'joined', 1795829101063344, NULL, 1, 0, 0, 2, 2, 0, 1795829161063344, 0, 0, 0.0, 0.0, 0.0, 1, NULL, NULL, NULL, 0);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES (X'01A21FC17208731E96D58ECE9AA527E7', 'bob', 'demo', 1, 'laptop', 'joined', 1795829101080024, NULL, 0, 0, 0, 5, 5, 0, 1795829161080024, 0, 0, 0.0, 0.0, 0.0, 1, NULL, NULL, NULL, 0);
INSERT INTO call_participants (call_id, user_id, organization_id, place, device_id, status, joined_at, left_at, audio, video, screen, version, joined_version, forgotten, expires_at, listening, reports, round_trip_ms, packet_loss_percent, bitrate_kbps, joins, departure, feed_id, decline_reason, barred)
VALUES (X'01A21FC17208731E96D58ECE9AA527E7', 'carol', 'demo', 2, '', 'ringing', NULL, NULL, 0, 0, 0, 4, 0, 0, NULL, 0, 0, 0.0, 0.0, 0.0, 0, NULL, NULL, NULL, 0);

INSERT INTO call_signals (call_id, version, from_id, to_id, kind, payload, bytes, nonce, fingerprint)
VALUES (X'01A21FC17208731E96D58ECE9AA527E7', 7, 'alice', 'bob', 'offer', X'CC173773647078763D305C725C6E4774797065576F66666572', 32, 'offer', X'AAFAD5D841574A9A0EA1B3A86AC48D9D');

-- The full-text index.
DELETE FROM message_words_data;
INSERT INTO message_words_data (id, block)
VALUES (1, X'0A1E');
INSERT INTO message_words_data (id, block)
VALUES (10, X'00000000FF000001010A0B000A0101010101000001020101020200000103010103030000010401010404000001050101050500000106010106060101010701010707000001080101080800000109010109090000010A01010A0A000001');
INSERT INTO message_words_data (id, block)
VALUES (137438953473, X'0000002B14303261393735313663333534626265747765656E0D02020D037468650D02030E02776F0D0204041808');
INSERT INTO message_words_data (id, block)
VALUES (274877906945, X'000000231030326139373531366333353462666F720E02020D066D7973656C660E02030414');
INSERT INTO message_words_data (id, block)
VALUES (412316860417, X'0000002C123032613937353136633335346261626F75740F02020D037468650F02030E0569636B65740F0204041608');
INSERT INTO message_words_data (id, block)
VALUES (549755813889, X'000000331430383232623333616438376331616E6F746865721002030E01741002020D0C6F7267616E69736174696F6E100204041806');
INSERT INTO message_words_data (id, block)
VALUES (687194767361, X'0000002C0E30326139373531366333353462611102030D056E6F6E63651102040D07776974686F757411020204120A');
INSERT INTO message_words_data (id, block)
VALUES (824633720833, X'0000002816303261393735313663333534626576657279626F64791202030D0568656C6C6F120202041A');
INSERT INTO message_words_data (id, block)
VALUES (962072674305, X'000000291030326139373531366333353462616C6C1202040D0568656C6C6F1202020D02746F12020304140A');
INSERT INTO message_words_data (id, block)
VALUES (1099511627777, X'000000280E30326139373531366333353462611302030D02696E1302020D06746872656164130204041207');
INSERT INTO message_words_data (id, block)
VALUES (1236950581249, X'000000310D30326139373531366333353462150403040D056C617465721502060D036E6F771502040D047768656E15020204120A08');
INSERT INTO message_words_data (id, block)
VALUES (1374389534721, X'000000291030326139373531366333353462616C6C1602040D0568656C6C6F1602020D02746F16020304140A');
INSERT INTO message_words_data (id, block)
VALUES (9008023888461824, X'04000000000000010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000');
DELETE FROM message_words_idx;
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (1, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (2, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (3, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (4, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (5, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (6, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (7, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (8, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (9, X'', 2);
INSERT INTO message_words_idx (segid, term, pgno)
VALUES (10, X'', 2);
DELETE FROM message_words_docsize;
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (13, X'03', 1);
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (14, X'02', 2);
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (15, X'03', 3);
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (16, X'03', 4);
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (17, X'03', 5);
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (18, X'03', 7);
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (19, X'03', 8);
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (21, X'05', 9);
INSERT INTO message_words_docsize (id, sz, origin)
VALUES (22, X'03', 10);
DELETE FROM message_words_config;
INSERT INTO message_words_config (k, v)
VALUES ('version', 4);
