// Copyright (c) certops.kubernetes contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"
)

type object = map[string]any

// kind is what is served below an API group, "" for the core's.
type kind struct {
	list  string
	group string
}

var kinds = map[string]kind{
	"leases":                          {"LeaseList", "coordination.k8s.io"},
	"certificatesigningrequests":      {"CertificateSigningRequestList", "certificates.k8s.io"},
	"configmaps":                      {"ConfigMapList", ""},
	"namespaces":                      {"NamespaceList", ""},
	"nodes":                           {"NodeList", ""},
	"pods":                            {"PodList", ""},
	"secrets":                         {"SecretList", ""},
	"services":                        {"ServiceList", ""},
	"apiservices":                     {"APIServiceList", "apiregistration.k8s.io"},
	"validatingwebhookconfigurations": {"ValidatingWebhookConfigurationList", "admissionregistration.k8s.io"},
	"mutatingwebhookconfigurations":   {"MutatingWebhookConfigurationList", "admissionregistration.k8s.io"},
	"customresourcedefinitions":       {"CustomResourceDefinitionList", "apiextensions.k8s.io"},
}

// registryKey is where etcd keeps what lies at an API path, with the resource's plural and whether the path names one object.
func registryKey(path string) (key, plural string, single, ok bool) {
	words := strings.Split(strings.Trim(path, "/"), "/")
	group := ""
	switch {
	case len(words) > 2 && words[0] == "api" && words[1] == "v1":
		words = words[2:]
	case len(words) > 3 && words[0] == "apis" && words[2] == "v1":
		group, words = words[1], words[3:]
	default:
		return "", "", false, false
	}
	namespaced := len(words) > 2 && words[0] == "namespaces"
	if namespaced {
		words = append([]string{words[2], words[1]}, words[3:]...)
	}
	if found, known := kinds[words[0]]; !known || found.group != group {
		return "", "", false, false
	}
	single = namespaced && len(words) == 3 || !namespaced && len(words) == 2
	return "/registry/" + strings.Join(words, "/"), words[0], single, namespaced && len(words) <= 3 || !namespaced && len(words) <= 2
}

func (s *apiServer) objects(w http.ResponseWriter, r *http.Request, path string, who user) {
	key, plural, single, ok := registryKey(path)
	if !ok {
		fail(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		return
	}
	if r.Method != http.MethodGet {
		s.writes.Lock()
		defer s.writes.Unlock()
	}
	switch {
	case !single && r.Method == http.MethodGet:
		s.list(w, key, plural, r.URL.Query())
	case !single && r.Method == http.MethodPost:
		s.create(w, r, key, who)
	case single && r.Method == http.MethodGet:
		if found, ok := s.load(w, key); ok {
			reply(w, http.StatusOK, found)
		}
	case single && r.Method == http.MethodPut:
		s.replace(w, r, key)
	case single && r.Method == http.MethodPatch:
		s.patch(w, r, key)
	case single && r.Method == http.MethodDelete:
		s.remove(w, r, key)
	default:
		fail(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the server does not allow this method on the requested resource")
	}
}

// selector narrows a list: by metadata.name or a Secret's type, and by labels, `key` or `key=value`.
type selector struct {
	field  string
	value  string
	labels []string
}

func newSelector(plural string, query url.Values) (selector, error) {
	labels := strings.FieldsFunc(query.Get("labelSelector"), func(r rune) bool { return r == ',' })
	field, value, _ := strings.Cut(query.Get("fieldSelector"), "=")
	if field != "" && field != "metadata.name" && !(field == "type" && plural == "secrets") {
		return selector{}, fmt.Errorf("field label not supported: %s", field)
	}
	return selector{field, value, labels}, nil
}

func (s selector) matches(item object) bool {
	if s.field == "metadata.name" && metadata(item)["name"] != s.value || s.field == "type" && item["type"] != s.value {
		return false
	}
	has, _ := metadata(item)["labels"].(object)
	for _, wanted := range s.labels {
		key, value, exact := strings.Cut(wanted, "=")
		if found, ok := has[key]; !ok || exact && found != value {
			return false
		}
	}
	return true
}

// list gives at most `limit` objects in the order of their keys, and a token by which the next ones are asked for.
func (s *apiServer) list(w http.ResponseWriter, key, plural string, query url.Values) {
	wanted, err := newSelector(plural, query)
	limit, after := 0, []byte(nil)
	if err == nil && query.Get("limit") != "" {
		limit, err = strconv.Atoi(query.Get("limit"))
	}
	if err == nil {
		after, err = base64.RawURLEncoding.DecodeString(query.Get("continue"))
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	found, err := s.etcd.scan(key+"/", key+"0")
	if err != nil {
		fail(w, http.StatusInternalServerError, "InternalError", err.Error())
		return
	}
	sort.Slice(found, func(a, b int) bool { return bytes.Compare(found[a].Key, found[b].Key) < 0 })
	items, meta, last := []object{}, object{}, []byte(nil)
	for _, kv := range found {
		item, err := decode(kv)
		if err != nil || bytes.Compare(kv.Key, after) <= 0 || !wanted.matches(item) {
			continue
		}
		if limit > 0 && len(items) == limit {
			meta["continue"] = base64.RawURLEncoding.EncodeToString(last)
			break
		}
		items, last = append(items, item), kv.Key
	}
	version := strings.TrimPrefix(kinds[plural].group+"/v1", "/")
	reply(w, http.StatusOK, object{"kind": kinds[plural].list, "apiVersion": version, "metadata": meta, "items": items})
}

func (s *apiServer) load(w http.ResponseWriter, key string) (object, bool) {
	found, err := s.etcd.scan(key, "")
	if err == nil && len(found) == 0 {
		words := strings.Split(key, "/")
		fail(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", words[2], words[len(words)-1]))
		return nil, false
	}
	var item object
	if err == nil {
		item, err = decode(found[0])
	}
	if err != nil {
		fail(w, http.StatusInternalServerError, "InternalError", err.Error())
		return nil, false
	}
	return item, true
}

func decode(kv keyValue) (object, error) {
	item := object{}
	if err := json.Unmarshal(kv.Value, &item); err != nil {
		return nil, err
	}
	metadata(item)["resourceVersion"] = kv.ModRevision
	return item, nil
}

func metadata(item object) object {
	found, ok := item["metadata"].(object)
	if !ok {
		found = object{}
		item["metadata"] = found
	}
	return found
}

func (s *apiServer) create(w http.ResponseWriter, r *http.Request, key string, who user) {
	item, ok := body[object](w, r)
	if !ok {
		return
	}
	name, _ := metadata(item)["name"].(string)
	if prefix, _ := metadata(item)["generateName"].(string); name == "" {
		name = prefix + newUID()[:8]
		metadata(item)["name"] = name
	}
	if strings.HasPrefix(r.URL.Path, requestsPath) {
		s.asked(item, who, key+"/"+name)
	}
	if found, err := s.etcd.scan(key+"/"+name, ""); err == nil && len(found) > 0 {
		fail(w, http.StatusConflict, "AlreadyExists", fmt.Sprintf("%q already exists", name))
		return
	}
	metadata(item)["uid"] = newUID()
	metadata(item)["creationTimestamp"] = time.Now().UTC().Format(time.RFC3339)
	s.save(w, http.StatusCreated, key+"/"+name, item)
}

func (s *apiServer) replace(w http.ResponseWriter, r *http.Request, key string) {
	item, ok := body[object](w, r)
	if !ok {
		return
	}
	found, ok := s.load(w, key)
	if !ok {
		return
	}
	if wanted, _ := metadata(item)["resourceVersion"].(string); wanted != "" && wanted != metadata(found)["resourceVersion"] {
		conflict(w, key)
		return
	}
	s.save(w, http.StatusOK, key, item)
}

// remove knows the preconditions of DeleteOptions.
func (s *apiServer) remove(w http.ResponseWriter, r *http.Request, key string) {
	options, ok := body[struct {
		Preconditions map[string]string `json:"preconditions"`
	}](w, r)
	if !ok {
		return
	}
	found, ok := s.load(w, key)
	if !ok {
		return
	}
	for name, wanted := range options.Preconditions {
		if metadata(found)[name] != wanted {
			conflict(w, key)
			return
		}
	}
	if err := s.etcd.remove(key); err != nil {
		fail(w, http.StatusInternalServerError, "InternalError", err.Error())
		return
	}
	reply(w, http.StatusOK, object{"kind": "Status", "apiVersion": "v1", "metadata": object{}, "status": "Success"})
}

func newUID() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // it never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", random[:4], random[4:6], random[6:8], random[8:10], random[10:])
}

// patch knows merge patches and the JSON patch operations test, add and replace.
func (s *apiServer) patch(w http.ResponseWriter, r *http.Request, key string) {
	found, ok := s.load(w, key)
	if !ok {
		return
	}
	before := metadata(found)["resourceVersion"]
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json-patch+json") {
		operations, ok := body[[]jsonPatchOperation](w, r)
		if !ok {
			return
		}
		for _, o := range operations {
			if err := o.apply(found); err != nil {
				fail(w, http.StatusUnprocessableEntity, "Invalid", err.Error())
				return
			}
		}
	} else {
		change, ok := body[object](w, r)
		if !ok {
			return
		}
		merge(found, change)
	}
	if metadata(found)["resourceVersion"] != before {
		conflict(w, key)
		return
	}
	s.save(w, http.StatusOK, key, found)
}

type jsonPatchOperation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

func (o jsonPatchOperation) apply(item object) error {
	words := strings.Split(strings.TrimPrefix(o.Path, "/"), "/")
	for _, word := range words[:len(words)-1] {
		next, ok := item[word].(object)
		if !ok {
			return fmt.Errorf("the server rejected our request due to an error in our request: no %s", o.Path)
		}
		item = next
	}
	last := words[len(words)-1]
	switch {
	case o.Op == "test" && fmt.Sprint(item[last]) != fmt.Sprint(o.Value):
		return fmt.Errorf("testing value %s failed", o.Path)
	case o.Op == "replace", o.Op == "add":
		item[last] = o.Value
	case o.Op != "test":
		return fmt.Errorf("operation %q is not known here", o.Op)
	}
	return nil
}

func merge(item, change object) {
	for name, value := range change {
		inner, isObject := value.(object)
		old, wasObject := item[name].(object)
		switch {
		case value == nil:
			delete(item, name)
		case isObject && wasObject:
			merge(old, inner)
		default:
			item[name] = value
		}
	}
}

func (s *apiServer) save(w http.ResponseWriter, status int, key string, item object) {
	delete(metadata(item), "resourceVersion")
	data, err := json.Marshal(item)
	if err == nil {
		err = s.etcd.put(key, string(data))
	}
	if err != nil {
		fail(w, http.StatusInternalServerError, "InternalError", err.Error())
		return
	}
	if saved, ok := s.load(w, key); ok {
		reply(w, status, saved)
	}
}

func conflict(w http.ResponseWriter, key string) {
	fail(w, http.StatusConflict, "Conflict", fmt.Sprintf("Operation cannot be fulfilled on %s: the object has been modified; "+
		"please apply your changes to the latest version and try again", key))
}

func body[T any](w http.ResponseWriter, r *http.Request) (T, bool) {
	var value T
	data, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err == nil && (len(data) > 0 || r.Method != http.MethodDelete) {
		err = json.Unmarshal(data, &value)
	}
	if err != nil {
		fail(w, http.StatusBadRequest, "BadRequest", err.Error())
	}
	return value, err == nil
}
