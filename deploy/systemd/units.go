// Package systemd carries the units of the services, for harvest deploy to install.
package systemd

import (
	"embed"
	"fmt"
)

//go:embed *.service
var units embed.FS

// Unit gives the text of a unit, by its name with the ending.
func Unit(name string) ([]byte, error) {
	text, err := units.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("there is no unit %s in this program", name)
	}
	return text, nil
}
