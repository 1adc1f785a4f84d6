package main

import (
	"fmt"
	"regexp"
	"strings"
)

// debianVersion is what dpkg and rpm both take without an epoch or a revision, which are the packager's own.
var debianVersion = regexp.MustCompile(`^[0-9][0-9A-Za-z.+~]*$`)

func checkVersion(version string) error {
	if !debianVersion.MatchString(version) {
		return fmt.Errorf("--version: %q is none that packages take: it begins with a digit and has letters, digits, dots, + and ~, for example 1.2.0~rc.1", version)
	}
	return nil
}

// tag is a version as the tag of an image, which has neither ~ nor +.
func tag(version string) string { return strings.NewReplacer("~", "-", "+", "-").Replace(version) }
