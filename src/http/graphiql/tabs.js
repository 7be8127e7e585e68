/** The initial tabs: four operations for a new user, to be run from left to right. */

const FIRST_QUERY = `# 1. Who you are, and the chats you are in.
#
# Run it by the button or Ctrl-Enter. Your token is
# below, in Headers. Ctrl-Space offers what can be
# asked; the book at the left holds the whole schema.

query FirstQuery {
  viewer {
    user { id name }
    organization { id }
    permissions
    unread { chats messages }
  }
  chats(first: 10) {
    nodes {
      id
      kind
      title
      lastMessage { text sender { name } }
      viewerMembership { unreadCount }
    }
  }
}
`

const OPEN_CHAT = `# 2. A chat with bob: the one you have, or a new one.
#    Copy its id for the next two tabs.
#
# People exist once their token has been seen. If bob
# isn't found, run tab 1 with his token in Headers.

mutation OpenChat {
  openDirectChat(input: { userId: "bob" }) {
    chat { id kind memberCount }
  }
}
`

const FIRST_SEND = `# 3. A first send. Put the chat's id in Variables below.
#
# A nonce is your own name for this message: sent again
# under the same one, it isn't doubled.

mutation FirstSend($chatId: ID!, $text: String!) {
  sendMessage(
    input: { chatId: $chatId, text: $text, nonce: null }
  ) {
    message { id seq text createdAt }
    replayed
  }
}
`

const FIRST_FEED = `# 4. A first feed: the newest messages, FeedCaughtUp,
#    then what happens, live.
#
# Put the chat's id in Variables below, run it, then
# send from a second window, best with bob's token in
# its Headers. After a cut, the argument \`after\` with
# the last cursor goes on with nothing lost.

subscription FirstFeed($chatId: ID!) {
  chatFeed(chatId: $chatId, last: 20) {
    __typename
    ... on MessageUpserted {
      cursor
      change
      message { id text sender { name } }
    }
    ... on FeedCaughtUp {
      cursor
    }
  }
}
`

const json = (value) => JSON.stringify(value, null, 2)
const chatId = 'the id that OpenChat answered'

export const tabs = [
  { query: FIRST_QUERY },
  { query: OPEN_CHAT },
  { query: FIRST_SEND, variables: json({ chatId, text: 'Hello, bob!' }) },
  { query: FIRST_FEED, variables: json({ chatId }) },
]
