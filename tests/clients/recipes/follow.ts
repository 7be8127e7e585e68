// follow.ts
export interface Feed<Event> {
  /** Queries what is shown, and returns the cursor of the response; undefined if it no longer exists for the viewer. */
  load: () => Promise<string | undefined>
  /** Subscribes after a cursor. Returns a function that ends the subscription. */
  subscribe: (after: string, sink: { next: (event: Event) => void; end: (error?: unknown) => void }) => () => void
}

/** `live` if what is shown is up to date; `ended` if the viewer lost access. */
export type FeedState = 'loading' | 'live' | 'ended'

/** Loads what is shown and keeps it up to date by a feed, until the returned function is called. */
export function follow<Event extends { __typename?: string }>(
  feed: Feed<Event>,
  onState: (state: FeedState) => void,
): () => void {
  let stopped = false
  let unsubscribe = () => {}
  const report = (state: FeedState) => {
    if (!stopped) onState(state)
  }
  const load = async () => {
    report('loading')
    for (let attempt = 0; !stopped; attempt++) {
      try {
        return await feed.load()
      } catch {
        await new Promise((retry) => setTimeout(retry, Math.min(500 * 2 ** attempt, 15_000)))
      }
    }
    return undefined
  }
  void load().then((cursor) => {
    if (stopped) return
    if (cursor === undefined) return report('ended')
    unsubscribe = feed.subscribe(cursor, {
      next: (event) => {
        if (event.__typename === 'FeedCaughtUp') report('live')
        // The feed cannot bring the shown data up to date. It goes on with live events.
        if (event.__typename === 'FeedReset') void load().then((again) => report(again === undefined ? 'ended' : 'live'))
      },
      end: () => report('ended'),
    })
  })
  return () => {
    stopped = true
    unsubscribe()
  }
}
