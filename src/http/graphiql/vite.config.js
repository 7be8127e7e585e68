import { defineConfig } from 'vite'

export default defineConfig({
  base: '/graphiql/',
  build: {
    // Monaco, the editor, is one large part; to cut it up would win nothing on loopback.
    chunkSizeWarningLimit: 8_000,
    rolldownOptions: {
      onwarn(warning, warn) {
        // React's compiler leaves its marks ("use no memo") in GraphiQL's own files.
        if (warning.code !== 'MODULE_LEVEL_DIRECTIVE') warn(warning)
      },
    },
  },
})
