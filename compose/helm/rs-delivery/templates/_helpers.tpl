{{- define "rs-delivery.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "rs-delivery.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "rs-delivery.name" .) .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name (include "rs-delivery.name" .) | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- define "rs-delivery.selector" -}}
app.kubernetes.io/name: {{ include "rs-delivery.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "rs-delivery.labels" -}}
{{ include "rs-delivery.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "rs-delivery.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (ternary (include "rs-delivery.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- define "rs-delivery.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Where files of secrets are; where a certificate for HTTPS is. */}}
{{- define "rs-delivery.secrets" -}}/run/secrets/rs-delivery{{- end }}
{{- define "rs-delivery.certificate" -}}/run/secrets/rs-delivery-tls{{- end }}

{{/* Where the file of tenants is, and the ConfigMap that it is of; nothing where they are in the settings. */}}
{{- define "rs-delivery.tenants" -}}/etc/rs-delivery-tenants{{- end }}
{{- define "rs-delivery.tenantsMap" -}}
{{- if .Values.tenants.existingConfigMap -}}
{{ .Values.tenants.existingConfigMap }}
{{- else if .Values.tenants.names -}}
{{ include "rs-delivery.fullname" . }}-tenants
{{- end -}}
{{- end }}

{{- define "rs-delivery.httpPort" -}}9049{{- end }}
{{- define "rs-delivery.metricsPort" -}}9464{{- end }}

{{/* The seconds between SIGTERM and SIGKILL: what the service takes to hand its work over, what the ways
     in and out take beside it, and the wait before SIGTERM. */}}
{{- define "rs-delivery.grace" -}}
{{ add (index .Values.settings "DELIVERY_SHUTDOWN_GRACE" | default "60" | float64 | ceil | int) 20 }}
{{- end }}

{{/* Deliveries that are work for a worker: those that wait for one, and those that run; not what
     waits for the next suborder of its order, or for a quota: more workers would not help it. Nothing, where
     PostgreSQL is away, which is not the same as none. */}}
{{- define "rs-delivery.work" -}}
{{- $of := printf "job=\"rs-delivery\",namespace=%q" .Release.Namespace -}}
(max(sum by (instance) (delivery_active{ {{- $of }},state=~"AVAILABLE|READY|TRANSFERRING"})) or 0 * max(delivery_database_up{ {{- $of -}} } == 1))
- (max(sum by (instance) (delivery_parked{ {{- $of -}} })) or vector(0))
- (max(sum by (instance) (delivery_quota_waiting{ {{- $of }},state="READY"})) or vector(0))
{{- end }}

{{/* Settings and files of secrets, of every process. */}}
{{- define "rs-delivery.environment" -}}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- if include "rs-delivery.tenantsMap" . }}
- name: DELIVERY_TENANTS_FILE
  value: {{ include "rs-delivery.tenants" . }}/tenants
{{- end }}
{{- range $name, $key := .Values.secrets.keys }}
{{- if $key }}
- name: {{ $name }}_FILE
  value: {{ include "rs-delivery.secrets" $ }}/{{ $key }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whether `delivery token` has a secret to sign with; see app/tenants/secret_rules.py. */}}
{{- define "rs-delivery.makesTokens" -}}
{{- $given := dict }}
{{- range $values := list .Values.settings .Values.secrets.keys }}
{{- range $name, $value := $values }}{{ if $value }}{{ $_ := set $given $name true }}{{ end }}{{ end }}
{{- end }}
{{- $by_others := or $given.DELIVERY_JWT_PUBLIC_KEY $given.DELIVERY_OIDC_ISSUER }}
{{- if or $given.DELIVERY_JWT_SECRET (and $given.DELIVERY_RS_ORDER_TOKEN_SECRET (not $by_others)) }}true{{ end }}
{{- end }}

{{/* What a pod is, whichever process is in it. */}}
{{- define "rs-delivery.pod" -}}
automountServiceAccountToken: false
# Kubernetes would tell of a Service "delivery-web" as DELIVERY_WEB_PORT, which is a setting.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001  # which files of secrets belong to
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "rs-delivery.container" -}}
image: {{ include "rs-delivery.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "rs-delivery.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: secrets, mountPath: {{ include "rs-delivery.secrets" . }}, readOnly: true}
{{- with .Values.volumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* `keys` are those of the Secret, which is mounted without its others. */}}
{{- define "rs-delivery.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
- name: secrets
  secret:
    secretName: {{ .Values.secrets.existingSecret }}
    defaultMode: 0440
    items:
    {{- range .keys | uniq | sortAlpha }}
    - {key: {{ . }}, path: {{ . }}}
    {{- end }}
{{- with .Values.volumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "rs-delivery.keys" -}}
{{- $keys := list -}}
{{- range $name, $key := .Values.secrets.keys }}{{ if $key }}{{ $keys = append $keys $key }}{{ end }}{{ end -}}
{{- $keys | toJson -}}
{{- end }}

{{/* Spread over nodes, as far as there are some. */}}
{{- define "rs-delivery.placement" -}}
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "rs-delivery.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .role }}
{{- with .of.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Life, for as long as which a process is let alone; a start may wait for a minute for what it needs, and
     longer where it migrates: it ends by itself if that does not come. */}}
{{- define "rs-delivery.liveness" -}}
startupProbe:
  httpGet: {path: /health/live, port: metrics}
  periodSeconds: 5
  failureThreshold: 120
livenessProbe:
  httpGet: {path: /health/live, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}

{{/* As a folder: of a single file that is mounted, no change would be seen. */}}
{{- define "rs-delivery.tenantsMount" -}}
{{- if include "rs-delivery.tenantsMap" . -}}
- {name: tenants, mountPath: {{ include "rs-delivery.tenants" . }}, readOnly: true}
{{- end -}}
{{- end }}

{{- define "rs-delivery.tenantsVolume" -}}
{{- with include "rs-delivery.tenantsMap" . -}}
- name: tenants
  configMap:
    name: {{ . }}
    items: [{key: tenants, path: tenants}]
{{- end -}}
{{- end }}
