// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// parseYAML reads the part of YAML that kubeadm writes: block maps and lists of plain or quoted scalars, and JSON.
// Scalars stay strings. It is for the tests' own files; anything else in a file is an error.
func parseYAML(data []byte) (object, error) {
	if trimmed := strings.TrimSpace(string(data)); strings.HasPrefix(trimmed, "{") {
		var value object
		err := json.Unmarshal(data, &value)
		return value, err
	}
	p := &yamlParser{}
	for number, raw := range strings.Split(string(data), "\n") {
		content := strings.TrimRight(raw, " \r")
		trimmed := strings.TrimLeft(content, " ")
		if trimmed == "" || trimmed[0] == '#' || trimmed == "---" {
			continue
		}
		p.lines = append(p.lines, yamlLine{number + 1, len(content) - len(trimmed), trimmed})
	}
	if len(p.lines) == 0 {
		return nil, fmt.Errorf("empty document")
	}
	value, err := p.block(p.lines[0].indent)
	if err == nil && p.at < len(p.lines) {
		err = p.failure("unexpected indentation")
	}
	found, ok := value.(object)
	if err == nil && !ok {
		err = fmt.Errorf("not a map")
	}
	return found, err
}

type yamlLine struct {
	number, indent int
	text           string
}

type yamlParser struct {
	lines []yamlLine
	at    int
}

func (p *yamlParser) failure(why string) error {
	return fmt.Errorf("line %d: %s", p.lines[min(p.at, len(p.lines)-1)].number, why)
}

func (p *yamlParser) block(indent int) (any, error) {
	if strings.HasPrefix(p.lines[p.at].text, "- ") || p.lines[p.at].text == "-" {
		return p.list(indent)
	}
	return p.mapping(indent)
}

func (p *yamlParser) mapping(indent int) (any, error) {
	result := object{}
	for p.at < len(p.lines) && p.lines[p.at].indent == indent && !strings.HasPrefix(p.lines[p.at].text, "- ") {
		name, rest, found := strings.Cut(p.lines[p.at].text, ":")
		if !found || rest != "" && rest[0] != ' ' {
			return nil, p.failure("neither a key nor a list item")
		}
		p.at++
		name = scalar(name)
		rest = strings.TrimSpace(rest)
		if strings.HasPrefix(rest, "#") {
			rest = ""
		}
		if rest != "" {
			result[name] = inline(rest)
			continue
		}
		result[name] = nil
		if p.at < len(p.lines) {
			next := p.lines[p.at]
			if next.indent > indent || next.indent == indent && strings.HasPrefix(next.text, "- ") {
				value, err := p.block(next.indent)
				if err != nil {
					return nil, err
				}
				result[name] = value
			}
		}
	}
	return result, nil
}

func (p *yamlParser) list(indent int) (any, error) {
	result := []any{}
	for p.at < len(p.lines) && p.lines[p.at].indent == indent && strings.HasPrefix(p.lines[p.at].text, "- ") {
		line := &p.lines[p.at]
		item := strings.TrimLeft(line.text[2:], " ")
		if !isKey(item) {
			result = append(result, inline(item))
			p.at++
			continue
		}
		line.indent += len(line.text) - len(item) // the item's first key begins a map of its own
		line.text = item
		value, err := p.mapping(line.indent)
		if err != nil {
			return nil, err
		}
		result = append(result, value)
	}
	return result, nil
}

func isKey(item string) bool {
	if item[0] == '"' || item[0] == '\'' {
		return false
	}
	return strings.HasSuffix(item, ":") || strings.Contains(item, ": ")
}

func inline(value string) any {
	switch value {
	case "{}":
		return object{}
	case "[]":
		return []any{}
	}
	return scalar(value)
}

func scalar(value string) string {
	if len(value) > 1 && (value[0] == '"' || value[0] == '\'') && value[len(value)-1] == value[0] {
		if value[0] == '"' {
			var decoded string
			if json.Unmarshal([]byte(value), &decoded) == nil {
				return decoded
			}
		}
		return value[1 : len(value)-1]
	}
	value, _, _ = strings.Cut(value, " #")
	return strings.TrimSpace(value)
}

func text(values object, name string) string {
	value, _ := values[name].(string)
	return value
}

func items(values object, name string) []object {
	list, _ := values[name].([]any)
	found := []object{}
	for _, value := range list {
		if item, ok := value.(object); ok {
			found = append(found, item)
		}
	}
	return found
}

// entry finds a kubeconfig's named entry: entry(conf, "users", "x", "user") is the user called x.
func entry(conf object, list, name, kind string) object {
	for _, item := range items(conf, list) {
		if text(item, "name") == name {
			found, _ := item[kind].(object)
			return found
		}
	}
	return nil
}
