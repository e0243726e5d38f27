#!/bin/sh
# Print the folder that holds Debian's prometheus, promtool and prometheus-alertmanager, unpacked into the cache
# and not installed.
# Exits 1 with the reason where they are not to be had.
set -eu
cache=${KEEPER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/keeper}/prometheus
tools=$cache/usr/bin

give_up() { echo "prometheus: $1" >&2; exit 1; }

if [ ! -x "$tools/promtool" ] || [ ! -x "$tools/prometheus-alertmanager" ]; then
  if command -v promtool >/dev/null && command -v prometheus >/dev/null &&
    command -v prometheus-alertmanager >/dev/null; then
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
  (cd "$work/archive" && apt-get download -qq -o APT::Sandbox::User=root prometheus prometheus-alertmanager) >"$work/download" 2>&1 ||
    give_up "apt-get download failed: $(tail -n 1 "$work/download")"
  for package in "$work"/archive/*.deb; do
    dpkg-deb -x "$package" "$work/tree" || give_up "$(basename "$package") does not unpack"
  done
  for program in promtool prometheus prometheus-alertmanager; do
    [ -x "$work/tree/usr/bin/$program" ] || give_up "the packages hold no $program"
  done
  # Debian's Alertmanager reads its templates from a folder that only root can make: here, from the one it runs in
  here=$(printf './%.0s' 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17)
  LC_ALL=C sed -i "s|/usr/share/prometheus/alertmanager|$here|g" "$work/tree/usr/bin/prometheus-alertmanager"
  rm -rf "$cache"
  mv "$work/tree" "$cache"
fi
echo "$tools"
