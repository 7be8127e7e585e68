// Every GraphiQL stores its tabs under the same keys, and development servers share a few origins. The prefix separates
// the tabs of this page from those of other applications.
const PREFIX = 'parlor/'

const ownKeys = () => Object.keys(localStorage).filter((key) => key.startsWith(PREFIX))

export const storage = {
  getItem: (key) => localStorage.getItem(PREFIX + key),
  setItem: (key, value) => localStorage.setItem(PREFIX + key, value),
  removeItem: (key) => localStorage.removeItem(PREFIX + key),
  clear: () => ownKeys().forEach((key) => localStorage.removeItem(key)),
  get length() {
    return ownKeys().length
  },
}
