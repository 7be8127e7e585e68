# Functions that install missing programs. `run` and `tests/run` source this file.

# install PROGRAM PACKAGE...: installs Debian packages if the program is missing and the user may install.
install() {
  local program=$1
  shift
  command -v "$program" >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    printf '\n== installing %s\n' "$*" >&2
    [ -n "${updated:-}" ] || apt-get update -qq
    updated=yes
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
  else
    echo "$program is missing: install it (Debian: $*)" >&2
    return 1
  fi
}

# node_is_recent: succeeds if Node can build GraphiQL. Its bundler, Vite 8, needs Node 20.19, or 22.12 and later.
node_is_recent() {
  command -v node >/dev/null && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22 ? 0 : 1)'
}

# provide_node FOLDER: makes a recent Node the first in PATH. Where the installed one is older, as in Debian 12, npm
# installs the package `node`, which contains the program, into the folder.
provide_node() {
  node_is_recent && command -v npm >/dev/null && return
  install node nodejs || return 1
  install npm npm || return 1
  node_is_recent && return
  printf '\n== installing Node 22, because Node %s is too old to build GraphiQL\n' "$(node --version)" >&2
  mkdir -p "$1"
  npm install --prefix "$1" --no-audit --no-fund --loglevel=error node@22 >/dev/null || return 1
  PATH=$1/node_modules/.bin:$PATH
  export PATH
  hash -r
  node_is_recent
}
