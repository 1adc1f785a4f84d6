package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

func setRetention(d *draft, text string) error {
	var v time.Duration
	var err error
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		v = time.Duration(n) * 24 * time.Hour
	} else {
		v, err = time.ParseDuration(text)
	}
	if err != nil || v < 2*time.Hour || v > 3650*24*time.Hour {
		return errors.New("not a duration from 2h to 3650d; write for example 15d or 36h")
	}
	d.Monitor.Retention = v
	return nil
}

// commaList splits at commas and drops what is blank.
func commaList(text string) []string {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" && !slices.Contains(list, part) {
			list = append(list, part)
		}
	}
	return list
}

func hostNames(field func(*draft) *[]string) func(*draft, string) error {
	return func(d *draft, text string) error {
		for _, name := range commaList(text) {
			host, err := checkHost(name)
			if err != nil {
				return fmt.Errorf("%q is %w", name, err)
			}
			*field(d) = append(*field(d), strings.ToLower(host))
		}
		return nil
	}
}

func fileList(field func(*draft) *[]string) func(*draft, string) error {
	return func(d *draft, text string) error {
		for _, path := range commaList(text) {
			if err := readable(path); err != nil {
				return fmt.Errorf("%s %w", path, err)
			}
			*field(d) = append(*field(d), path)
		}
		return nil
	}
}

func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if n, bad := strconv.Atoi(port); err != nil || host == "" || bad != nil || n < 1 || n > 65535 {
		return errors.New("not HOST:PORT; write for example 127.0.0.1:8042")
	}
	return nil
}

func targets(field func(*draft) *[]string) func(*draft, string) error {
	return func(d *draft, text string) error {
		var list []string
		for _, t := range commaList(text) {
			address := t
			if strings.Contains(t, "://") {
				u, err := url.Parse(t)
				if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.User != nil || strings.Trim(u.Path, "/") != "" {
					return fmt.Errorf("%q is not a target; write HOST:PORT or https://HOST:PORT", t)
				}
				address = u.Host
				t = strings.TrimSuffix(t, "/")
			}
			if err := checkHostPort(address); err != nil {
				return fmt.Errorf("%q is %w", t, err)
			}
			list = append(list, t)
		}
		if len(list) == 0 {
			return errors.New("names no target; write HOST:PORT")
		}
		*field(d) = list
		return nil
	}
}

func checkURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Fragment != "" {
		return nil, errors.New("not a URL; begin it with http:// or https://")
	}
	return u, nil
}

// serverURL takes the URL of a server, with a path in front of its API where it has one. Credentials are refused: it is
// shown.
func serverURL(field func(*draft) **url.URL) func(*draft, string) error {
	return func(d *draft, text string) error {
		u, err := checkURL(strings.TrimSuffix(text, "/"))
		if err != nil {
			return err
		}
		if u.User != nil || u.RawQuery != "" {
			return errors.New("has credentials or a query in it; write scheme, host and path only")
		}
		*field(d) = u
		return nil
	}
}

func plainURL(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, text string) error {
		u, err := checkURL(text)
		if err == nil && u.User != nil {
			err = errors.New("has credentials in it; it is shown, so they do not belong there")
		}
		*field(d) = text
		return err
	}
}

func secretURL(field func(*draft) *Secret) func(*draft, string) error {
	return func(d *draft, text string) error {
		_, err := checkURL(text)
		*field(d) = NewSecret(text)
		return err
	}
}

// readSecret reads a file that holds one secret and nothing else.
func readSecret(path string) (string, error) {
	raw, err := readFile(path)
	text := strings.TrimSpace(string(raw))
	switch {
	case err != nil:
		return "", err
	case text == "":
		return "", errors.New("the file is empty")
	case len(raw) > maxPasswordFileBytes || strings.ContainsAny(text, "\r\n"):
		return "", errors.New("the file holds more than one line; it must hold the secret alone")
	}
	return text, nil
}

func secretFile(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, path string) error {
		if _, err := readSecret(path); err != nil {
			return err
		}
		abs, err := filepath.Abs(path)
		*field(d) = abs
		return err
	}
}

// secretURLFile does not repeat the content in its error.
func secretURLFile(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, path string) error {
		text, err := readSecret(path)
		if err != nil {
			return err
		}
		if _, err := checkURL(text); err != nil {
			return errors.New("the file does not hold a URL; it must begin with http:// or https://")
		}
		abs, err := filepath.Abs(path)
		*field(d) = abs
		return err
	}
}

func addresses(field func(*draft) *string) func(*draft, string) error {
	return func(d *draft, text string) error {
		if _, err := mail.ParseAddressList(text); err != nil {
			return errors.New("not a mail address; write for example desk@example.com")
		}
		*field(d) = text
		return nil
	}
}
