//! What is so: one chat as the model has it, each thing by its place in the chat's log.

use std::collections::{BTreeMap, BTreeSet};

/// Roles from least to most, as numbers.
pub const ROLES: [&str; 4] = ["MEMBER", "MODERATOR", "ADMIN", "OWNER"];
pub const MEMBER: usize = 0;
const MODERATOR: usize = 1;
const ADMIN: usize = 2;
const OWNER: usize = 3;

/// The code with which something is refused.
pub type Refused = &'static str;
const NOT_FOUND: Refused = "NOT_FOUND";
const FORBIDDEN: Refused = "FORBIDDEN";
const BAD_USER_INPUT: Refused = "BAD_USER_INPUT";

/// A message.
#[derive(Debug, Clone, Default)]
pub struct Said {
    /// None for a message of the chat's own that nobody has read yet.
    pub id: Option<String>,
    pub sender: Option<usize>,
    pub text: Option<String>,
    /// What a message of the chat's own tells of.
    pub notice: Option<&'static str>,
    pub root: Option<i64>,
    pub in_timeline: bool,
    pub replies: i64,
    pub mentions: BTreeSet<usize>,
    pub everyone: bool,
    pub reactions: BTreeSet<usize>,
    pub deleted: bool,
}

/// One who is in, or was.
#[derive(Debug, Clone)]
pub struct Member {
    pub is_in: bool,
    pub role: usize,
    /// When they last came in.
    since: i64,
    pub read: i64,
    pub privately: bool,
    pub marked: bool,
}

/// What somebody wants to say.
#[derive(Debug, Clone)]
pub struct Draft {
    pub text: String,
    pub root: Option<i64>,
    pub also_in_chat: bool,
    pub mentions: BTreeSet<usize>,
    pub everyone: bool,
}

pub struct Room {
    pub is_channel: bool,
    pub version: i64,
    pub said: BTreeMap<i64, Said>,
    pub members: BTreeMap<usize, Member>,
}

impl Room {
    /// A chat as it begins, made by the first of these people.
    pub fn new(is_channel: bool, people: &[usize]) -> Self {
        let mut room = Self { is_channel, version: 1, said: BTreeMap::new(), members: BTreeMap::new() };
        for (number, who) in people.iter().enumerate() {
            let role = if number == 0 { OWNER } else { MEMBER };
            room.version += 1;
            room.members.insert(*who, Member { is_in: true, role, since: 0, read: 0, privately: false, marked: false });
        }
        room.notice("CHAT_CREATED");
        room.notice("WELCOME");
        // They all begin at the newest message.
        let newest = room.newest();
        room.members.values_mut().for_each(|member| member.read = newest);
        room
    }

    pub fn member(&self, who: usize) -> Option<&Member> {
        self.members.get(&who).filter(|member| member.is_in)
    }

    /// Messages that somebody has not read, and those of them that mention them.
    pub fn unread(&self, who: usize) -> (usize, usize) {
        let Some(member) = self.member(who) else { return (0, 0) };
        let after = self.said.range(member.read + 1..).map(|(_, said)| said);
        let unread = after.filter(|said| said.in_timeline && !said.deleted && said.sender.is_some_and(|by| by != who));
        let unread: Vec<_> = unread.collect();
        let mentions = unread.iter().filter(|said| said.everyone || said.mentions.contains(&who)).count();
        (unread.len(), mentions)
    }

    /// Those who are in.
    pub fn present(&self) -> impl Iterator<Item = usize> + Clone {
        self.members.iter().filter(|(_, member)| member.is_in).map(|(who, _)| *who)
    }

    /// The one who runs the chat, if anybody does.
    pub fn owner(&self) -> Option<usize> {
        self.present().find(|who| self.members[who].role == OWNER)
    }

    fn next(&mut self) -> i64 {
        self.version += 1;
        self.version
    }

    fn notice(&mut self, kind: &'static str) {
        let seq = self.next();
        self.said.insert(seq, Said { notice: Some(kind), in_timeline: true, ..Said::default() });
    }

    /// The last place before this one among the chat's messages.
    fn last_before(&self, seq: i64) -> i64 {
        self.said.range(..seq).rev().find(|(_, said)| said.in_timeline).map_or(0, |(seq, _)| *seq)
    }

    fn newest(&self) -> i64 {
        self.last_before(i64::MAX)
    }

    /// One who takes part; another sees a channel, and nothing of a group.
    fn taking_part(&mut self, who: usize) -> Result<&mut Member, Refused> {
        let refused = if self.is_channel { FORBIDDEN } else { NOT_FOUND };
        self.members.get_mut(&who).filter(|member| member.is_in).ok_or(refused)
    }

    fn at_least(&mut self, who: usize, role: usize) -> Result<(), Refused> {
        if self.taking_part(who)?.role >= role { Ok(()) } else { Err(FORBIDDEN) }
    }

    /// A message, for one who may read it.
    fn readable(&mut self, who: usize, seq: i64) -> Result<&mut Said, Refused> {
        self.member(who).ok_or(NOT_FOUND)?;
        self.said.get_mut(&seq).ok_or(NOT_FOUND)
    }

    pub fn send(&mut self, who: usize, draft: &Draft) -> Result<i64, Refused> {
        self.at_least(who, if draft.everyone { MODERATOR } else { MEMBER })?;
        if let Some(root) = draft.root {
            match self.said.get(&root) {
                Some(root) if root.deleted => return Err(NOT_FOUND),
                Some(root) if root.root.is_some() => return Err(BAD_USER_INPUT),
                Some(root) if root.notice.is_some() => return Err(FORBIDDEN),
                Some(_) => {}
                None => return Err(NOT_FOUND),
            }
        }
        if draft.mentions.iter().any(|whom| self.member(*whom).is_none()) {
            return Err(BAD_USER_INPUT);
        }
        let (seq, in_timeline) = (self.next(), draft.root.is_none() || draft.also_in_chat);
        let said = Said {
            sender: Some(who),
            text: Some(draft.text.clone()),
            root: draft.root,
            in_timeline,
            mentions: draft.mentions.clone(),
            everyone: draft.everyone,
            ..Said::default()
        };
        self.said.insert(seq, said);
        self.count_reply(draft.root, 1);
        if in_timeline {
            let member = self.taking_part(who)?;
            (member.read, member.marked) = (seq, false);
        }
        Ok(seq)
    }

    fn count_reply(&mut self, root: Option<i64>, more: i64) {
        if let Some(root) = root.and_then(|root| self.said.get_mut(&root)) {
            root.replies += more;
            self.version += 1;
        }
    }

    pub fn edit(&mut self, who: usize, seq: i64, text: &str) -> Result<(), Refused> {
        let said = self.readable(who, seq)?;
        if said.sender != Some(who) || said.deleted {
            return Err(FORBIDDEN);
        }
        said.text = Some(text.to_owned());
        self.version += 1;
        Ok(())
    }

    pub fn delete_message(&mut self, who: usize, seq: i64) -> Result<(), Refused> {
        let role = self.member(who).ok_or(NOT_FOUND)?.role;
        let said = self.readable(who, seq)?;
        if said.notice.is_some() || said.sender != Some(who) && role < MODERATOR {
            return Err(FORBIDDEN);
        }
        if said.deleted {
            return Ok(());
        }
        said.deleted = true;
        (said.text, said.everyone) = (None, false);
        said.mentions.clear();
        said.reactions.clear();
        let root = said.root;
        self.version += 1;
        self.count_reply(root, -1);
        Ok(())
    }

    /// Gives a reaction, or takes it back where it was given.
    pub fn react(&mut self, who: usize, seq: i64) -> Result<(), Refused> {
        let said = self.readable(who, seq)?;
        if said.deleted || said.notice.is_some() {
            return Err(FORBIDDEN);
        }
        if !said.reactions.remove(&who) {
            said.reactions.insert(who);
        }
        self.version += 1;
        Ok(())
    }

    pub fn read(&mut self, who: usize, up_to: Option<i64>, privately: bool) -> Result<(), Refused> {
        let newest = self.newest();
        let member = self.taking_part(who)?;
        let seq = up_to.unwrap_or(newest);
        if seq >= member.read {
            (member.read, member.privately) = (seq, privately);
        }
        member.marked = false;
        Ok(())
    }

    pub fn unread_from(&mut self, who: usize, from: Option<i64>) -> Result<(), Refused> {
        let before = from.map(|from| self.last_before(from));
        let member = self.taking_part(who)?;
        member.read = before.map_or(member.read, |before| before.min(member.read));
        member.marked = true;
        Ok(())
    }

    pub fn add(&mut self, who: usize, whom: usize, role: usize) -> Result<(), Refused> {
        self.at_least(who, if role > MEMBER { OWNER } else { ADMIN })?;
        self.bring_in(whom, role);
        Ok(())
    }

    pub fn join(&mut self, who: usize) -> Result<(), Refused> {
        if !self.is_channel {
            self.taking_part(who)?;
            return Err(FORBIDDEN);
        }
        self.bring_in(who, MEMBER);
        Ok(())
    }

    /// One who comes back begins at the newest message as a new one does; what they set stays.
    fn bring_in(&mut self, whom: usize, role: usize) {
        if self.member(whom).is_some() {
            return;
        }
        let (read, since) = (self.newest(), self.next());
        let former = self.members.get(&whom);
        let privately = former.is_some_and(|former| former.privately);
        let marked = former.is_some_and(|former| former.marked);
        self.members.insert(whom, Member { is_in: true, role, since, read, privately, marked });
        self.notice("MEMBER_ADDED");
    }

    pub fn kick(&mut self, who: usize, whom: usize) -> Result<(), Refused> {
        if who == whom {
            let seen = self.is_channel || self.member(who).is_some();
            return Err(if seen { BAD_USER_INPUT } else { NOT_FOUND });
        }
        self.at_least(who, ADMIN)?;
        let own = self.taking_part(who)?.role;
        let theirs = self.member(whom).ok_or(NOT_FOUND)?.role;
        if own <= theirs && own < OWNER {
            return Err(FORBIDDEN);
        }
        self.take_out(whom, "MEMBER_REMOVED");
        Ok(())
    }

    pub fn leave(&mut self, who: usize) -> Result<(), Refused> {
        let role = self.taking_part(who)?.role;
        self.take_out(who, "MEMBER_LEFT");
        // The highest of the others inherits from an owner, the longest there first.
        let others = self.members.iter().filter(|(_, member)| member.is_in);
        let heir =
            others.min_by_key(|(whom, member)| (OWNER - member.role, member.since, **whom)).map(|(whom, _)| *whom);
        if let Some(heir) = heir.filter(|heir| role == OWNER && self.members[heir].role < OWNER) {
            self.set_role(heir, OWNER);
        }
        Ok(())
    }

    fn take_out(&mut self, whom: usize, notice: &'static str) {
        if let Some(member) = self.members.get_mut(&whom) {
            (member.is_in, member.role) = (false, MEMBER);
            self.version += 1;
            self.notice(notice);
        }
    }

    pub fn give_role(&mut self, who: usize, whom: usize, role: usize) -> Result<(), Refused> {
        self.at_least(who, OWNER)?;
        let former = self.member(whom).ok_or(NOT_FOUND)?.role;
        if former == role {
            return Ok(());
        }
        let owners = self.members.values().filter(|member| member.is_in && member.role == OWNER).count();
        if former == OWNER && owners == 1 {
            return Err(FORBIDDEN);
        }
        self.set_role(whom, role);
        Ok(())
    }

    fn set_role(&mut self, whom: usize, role: usize) {
        if let Some(member) = self.members.get_mut(&whom) {
            member.role = role;
            self.version += 1;
            self.notice("ROLE_CHANGED");
        }
    }
}
