package deploy

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// addItem puts one more item at the beginning of a list of a YAML file, which is made where it is missing. Everything else
// stays as the operator wrote it, comments and order included: the text is added to, not written anew.
func addItem(src []byte, path []string, item any) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil {
		return nil, fmt.Errorf("this is not YAML: %w", err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("this is not a configuration: there is no mapping in it")
	}
	lines := strings.SplitAfter(string(src), "\n")
	if last := lines[len(lines)-1]; last != "" && !strings.HasSuffix(last, "\n") {
		lines[len(lines)-1] += "\n"
	}
	node := doc.Content[0]
	for depth, name := range path {
		key, value := child(node, name)
		if depth < len(path)-1 {
			if value == nil || value.Kind != yaml.MappingNode || value.Style&yaml.FlowStyle != 0 || len(value.Content) == 0 {
				return nil, fmt.Errorf("%s is not there, or not written as a block: add %s by hand", name, strings.Join(path, "."))
			}
			node = value
			continue
		}
		switch {
		case key == nil:
			// Before the first key of the mapping, as deep as that.
			indent := node.Content[0].Column - 1
			return insert(lines, node.Content[0].Line-1, pad(indent)+name+":\n"+block(item, indent+2)), nil
		case value.Kind == yaml.SequenceNode && value.Style&yaml.FlowStyle == 0:
			return insert(lines, value.Line-1, block(item, value.Column-1)), nil
		case value.Kind == yaml.SequenceNode:
			flow, err := json.Marshal(item)
			if err != nil {
				return nil, err
			}
			text := string(flow)
			if len(value.Content) > 0 {
				text += ", "
			}
			line := lines[value.Line-1]
			at := value.Column // just behind the bracket
			lines[value.Line-1] = line[:at] + text + line[at:]
			return []byte(strings.Join(lines, "")), nil
		case value.Tag == "!!null" && value.Value == "":
			return insert(lines, key.Line, block(item, key.Column+1)), nil
		}
		return nil, fmt.Errorf("%s is not a list", strings.Join(path, "."))
	}
	return src, nil
}

func child(node *yaml.Node, name string) (key, value *yaml.Node) {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}

func pad(n int) string { return strings.Repeat(" ", n) }

// block is an item of a list as a block of that depth.
func block(item any, indent int) string {
	raw, err := yaml.Marshal([]any{item})
	if err != nil {
		panic("deploy: an item of ours that is no YAML: " + err.Error())
	}
	var b strings.Builder
	for line := range strings.Lines(string(raw)) {
		b.WriteString(pad(indent) + line)
	}
	return b.String()
}

func insert(lines []string, before int, text string) []byte {
	head, tail := strings.Join(lines[:before], ""), strings.Join(lines[before:], "")
	return []byte(head + text + tail)
}
