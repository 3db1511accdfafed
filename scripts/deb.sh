#!/bin/sh
# Makes the Debian package out of programs that are built, by dpkg-deb alone:
#
#   scripts/deb.sh [--programs FOLDER] [--output FOLDER] [--version VERSION]
#
# By default out of target/release, into target/debian, with the version of Cargo.toml. Two runs on
# the same programs and commit make the same octets. Prints the package's path.
#
# Not by cargo-deb: it would have to be installed first, and knows nothing of this package that is
# not said here in as many lines.
set -eu

cd "$(dirname "$0")/.."
programs="${CARGO_TARGET_DIR:-target}/release"
output="${CARGO_TARGET_DIR:-target}/debian"
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
usage() { sed -n '2,6s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
    case "$1" in
    --programs) programs=$2; shift 2 ;;
    --output) output=$2; shift 2 ;;
    --version) version=$2; shift 2 ;;
    --help | -h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
done
for tool in dpkg-deb dpkg-shlibdeps strip; do
    command -v "$tool" >/dev/null || {
        echo "deb: $tool is missing: apt-get install dpkg-dev binutils" >&2
        exit 1
    }
done
# The moment of the commit: what a file's time says does not depend on who builds when.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
architecture=$(dpkg --print-architecture)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
root=$work/root
doc=$root/usr/share/doc/omninervous
mkdir -p "$root/DEBIAN" "$root/usr/bin" "$root/usr/lib/systemd/system" \
    "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d" "$doc/docs" \
    "$doc/config/examples" "$doc/packaging"

for program in omni-engine omni omni-nucleus; do
    install -m 0755 "$programs/$program" "$root/usr/bin/$program"
    # Where a panic was is in its text, not in symbols.
    strip --strip-unneeded --remove-section=.comment "$root/usr/bin/$program"
done

for unit in packaging/systemd/*.service; do
    sed 's,/usr/local/bin/,/usr/bin/,g' "$unit" >"$root/usr/lib/systemd/system/${unit##*/}"
done
install -m 0644 packaging/sysusers.d/omni.conf "$root/usr/lib/sysusers.d/"
install -m 0644 packaging/tmpfiles.d/omni.conf "$root/usr/lib/tmpfiles.d/"

# In the folders of the sources, so that links lead from one to the other.
install -m 0644 README.md SECURITY.md ARCHITECTURE.md CONTRIBUTING.md Cargo.lock "$doc/"
install -m 0644 docs/*.md docs/*.proto "$doc/docs/"
install -D -m 0644 -t "$doc/docs/images" docs/images/*.png
install -m 0644 config/KEYS.md config/NUCLEUS-KEYS.md config/nucleus.yaml "$doc/config/"
install -m 0644 config/examples/*.yaml "$doc/config/examples/"
cp -r packaging/kubernetes packaging/oci packaging/systemd "$doc/packaging/"
install -m 0644 packaging/debian/copyright "$doc/copyright"
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
{
    printf 'omninervous (%s) stable; urgency=medium\n\n' "$version"
    printf '  * See changelog.gz.\n\n'
    printf ' -- The OmniNervous developers <maintainers@omninervous.invalid>  %s\n' \
        "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
} | gzip -9n >"$doc/changelog.Debian.gz"

# Manual pages and completions, out of the programs' own arguments.
"$programs/omni" manual "$work/manual"
for page in "$work"/manual/man/*; do
    section=${page##*.}
    mkdir -p "$root/usr/share/man/man$section"
    gzip -9n <"$page" >"$root/usr/share/man/man$section/${page##*/}.gz"
done
for shell in bash:bash-completion/completions zsh:zsh/vendor-completions \
    fish:fish/vendor_completions.d; do
    mkdir -p "$root/usr/share/${shell#*:}"
    install -m 0644 "$work/manual/completions/${shell%%:*}"/* "$root/usr/share/${shell#*:}/"
done

# What libraries the programs need, and in which versions.
mkdir "$work/debian"
printf 'Source: omninervous\n\nPackage: omninervous\nArchitecture: any\n' >"$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O root/usr/bin/* 2>"$work/shlibdeps" |
    sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || {
    cat "$work/shlibdeps" >&2
    exit 1
}
size=$(du -sk --apparent-size --exclude=DEBIAN "$root" | cut -f1)
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
    -e "s/@DEPENDS@/$depends/" packaging/debian/control >"$root/DEBIAN/control"
for script in postinst prerm postrm; do
    install -m 0755 "packaging/debian/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p "$output"
package="$output/omninervous_${version}_$architecture.deb"
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
