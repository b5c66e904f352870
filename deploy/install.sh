#!/bin/sh
# Installs this clone's gateway into a new folder, just as the image does: the versions that
# requirements/ names, each checked by its hash, and bytecode, which its user may not write.
#
#   deploy/install.sh FOLDER                 everything
#   deploy/install.sh FOLDER dependencies    the part that rarely changes, as an image layer
#   deploy/install.sh FOLDER gateway         the rest
#
# PYTHON names the interpreter (python3), BUILDER one with requirements/build.txt installed.
set -eu
umask 022 # the user that runs it must be able to read it

folder=${1:?"where to? for example: deploy/install.sh /opt/gateway/0.1.0"}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
part=${2:-all}
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."

pip() {
	interpreter=$1
	shift
	"$interpreter" -m pip --disable-pip-version-check --quiet "$@"
}

case $part in all | dependencies | gateway) ;; *)
	echo "$part is no part: dependencies or gateway, or neither for both" >&2
	exit 1
	;;
esac

case $part in all | dependencies)
	[ ! -e "$folder" ] || { echo "$folder is there already: choose a new one" >&2; exit 1; }
	"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	"$python" -m venv "$folder"
	pip "$folder/bin/python" install --no-cache-dir --require-hashes -r requirements/prod.txt
	;;
esac

case $part in all | gateway)
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	if [ -z "${BUILDER:-}" ]; then
		BUILDER=$work/builder/bin/python
		"$folder/bin/python" -m venv "$work/builder"
		pip "$BUILDER" install --no-cache-dir --require-hashes -r requirements/build.txt
	fi
	pip "$BUILDER" wheel --no-build-isolation --no-deps --wheel-dir "$work" .
	pip "$folder/bin/python" install --no-deps --no-index --ignore-installed "$work"/*.whl
	"$folder/bin/python" -m compileall -q "$folder/lib"
	"$folder/bin/gateway" --version
	;;
esac
