// order.ts
/**
 * Delivers events after the answers that were under way when they arrived. Otherwise a slow answer, which is older than
 * an event, would overwrite what the event brought.
 */
export class AnswerOrder {
  readonly #underWay = new Set<Promise<void>>()
  #delivered: Promise<unknown> = Promise.resolve()

  /** Records that a request was sent. Call the returned function when its answer has arrived, or never will. */
  begin(): () => void {
    let end = () => {}
    const answer = new Promise<void>((resolve) => (end = resolve))
    this.#underWay.add(answer)
    return () => {
      this.#underWay.delete(answer)
      end()
    }
  }

  /** Delivers an event after the answers under way, and after the events before it. */
  deliver(event: () => void) {
    const answers = [...this.#underWay]
    // In the next task the answers are in the cache.
    const settled = async () => {
      if (answers.length > 0) await Promise.all(answers).then(() => new Promise((task) => setTimeout(task)))
    }
    this.#delivered = this.#delivered.then(settled).then(event).catch(console.error)
  }
}
