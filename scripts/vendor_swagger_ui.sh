#!/bin/sh
# Bring the interactive page's files anew: `make assets VERSION=5.35.0` (needs npm).
# They are checked in as they came; a test compares them with SHA256SUMS.
set -eu
version=$1
assets=$(CDPATH='' cd -- "$(dirname -- "$0")/../src/otpseal/http/assets" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# npm compares the archive with the integrity that the registry states.
(cd "$work" && npm pack --silent "swagger-ui-dist@$version" >/dev/null && tar -xzf ./*.tgz)
for name in LICENSE NOTICE swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css; do
  cp "$work/package/$name" "$assets/$name"
done
printf '%s\n' "$version" >"$assets/VERSION"
cd "$assets"
LC_ALL=C ls | grep -v '^SHA256SUMS$' | xargs sha256sum >SHA256SUMS
