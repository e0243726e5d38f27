#!/bin/sh
# Print the folder that holds Debian's prometheus and promtool, unpacked into the cache and not installed.
# Exits 1 with the reason where they are not to be had.
set -eu
cache=${KEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keeper}/prometheus
tools=$cache/usr/bin

give_up() { echo "prometheus: $1" >&2; exit 1; }

if [ ! -x "$tools/promtool" ]; then
  if command -v promtool >/dev/null && command -v prometheus >/dev/null; then
    dirname "$(command -v promtool)"
    exit
  fi
  command -v apt-get >/dev/null || give_up "no promtool on PATH, and no apt-get to take it from Debian with"
  mkdir -p "$(dirname "$cache")"
  work=$(mktemp -d "$cache.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  if ! apt-cache show prometheus >/dev/null 2>&1; then
    apt-get update -qq >"$work/update" 2>&1 || give_up "apt-get update failed: $(tail -n 1 "$work/update")"
  fi
  mkdir "$work/archive"
  # apt drops to a user of its own, which may not write into this folder; as root that is only a warning
  (cd "$work/archive" && apt-get download -qq -o APT::Sandbox::User=root prometheus) >"$work/download" 2>&1 ||
    give_up "apt-get download failed: $(tail -n 1 "$work/download")"
  dpkg-deb -x "$work"/archive/prometheus_*.deb "$work/tree" || give_up "the package does not unpack"
  [ -x "$work/tree/usr/bin/promtool" ] || give_up "the package holds no promtool"
  rm -rf "$cache"
  mv "$work/tree" "$cache"
fi
echo "$tools"
