# Read by login shells.
umask 027
export TZ="${TZ:-Etc/UTC}"
