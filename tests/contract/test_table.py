"""Each row of the wire contract, and the tests that fail when it no longer holds."""

from __future__ import annotations

import importlib

import pytest

_A, _I, _U, _C = "tests.acceptance", "tests.integration", "tests.unit", "tests.contract"
_W = "tests.web"
_SETTINGS, _FILES, _ACCESS = f"{_W}.test_settings", f"{_W}.test_configuration", f"{_W}.test_access"
_DELIVERY, _REFUSALS = f"{_A}.test_delivery", f"{_A}.test_refusals"
_DEAD_LETTERS, _WIRE = f"{_A}.test_dead_letters", f"{_C}.test_wire"
_OBJECTS = f"{_I}.test_objects"
_LISTING, _STORE, _OUTBOX = f"{_I}.test_listing", f"{_I}.test_store", "tests.store.test_outbox"
_ENDS = f"{_WIRE}:test_each_end_of_an_order_is_told"
_FORM = f"{_DELIVERY}:test_messages_are_in_the_order_and_the_form_of_the_contract"
_DEAD_LETTERED = (
    f"{_DEAD_LETTERS}:test_a_message_that_cannot_be_answered_is_kept_untouched_with_the_reason"
)
_RULES = f"{_WIRE}:test_each_broken_rule_is_named"

ROWS = {
    # AMQP
    "exchanges, queues, dead letters, arguments: either side may declare first": [
        f"{_WIRE}:test_each_side_may_declare_first_and_other_arguments_are_told"
    ],
    "the misspelt response exchange is bound to the right one": [
        f"{_DELIVERY}:test_a_client_on_the_misspelt_exchange_hears_too"
    ],
    "one queue, competing consumers; a message is acknowledged after Kafka's confirmation": [
        f"{_I}.test_bridge:test_a_message_is_not_acknowledged_before_kafka_has_confirmed"
    ],
    # Headers and properties
    "incoming: only regards.tenant is needed; Java's headers, priority 0, no message id": [
        f"{_WIRE}:test_a_request_as_java_publishes_it"
    ],
    "incoming: app_id, or order.user": [f"{_DELIVERY}:test_the_app_id_falls_back_to_the_user"],
    "outgoing: headers, content type, delivery mode, priority, app_id, ids": [_FORM],
    "outgoing: the same message id when a thing is said again": [
        f"{_I}.test_windows:test_a_worker_killed_before_the_offset_is_committed_answers_once"
    ],
    "outgoing: orders are mandatory and stay owed": [
        f"{_WIRE}:test_an_order_that_reaches_no_queue_stays_owed",
        f"{_OUTBOX}:test_a_message_that_is_not_confirmed_stays_owed_and_holds_back_those_behind_it",
    ],
    # DeliveryRequestDtoEvent
    "correlationId, order, user, queries, filters: each broken rule is named": [
        _RULES,
        f"{_REFUSALS}:test_a_request_that_breaks_rules_is_denied_with_every_reason",
        f"{_REFUSALS}:test_an_identifier_that_is_too_long_is_denied_like_anything_else",
    ],
    "targetDelivery is optional": [f"{_WIRE}:test_a_request_as_java_publishes_it"],
    "unknown fields are ignored": [f"{_WIRE}:test_unknown_fields_are_ignored_and_not_passed_on"],
    "no correlationId, no JSON, no tenant, unknown tenant: the queue's DLQ": [_DEAD_LETTERED],
    "an unknown user: DENIED, FORBIDDEN": [
        f"{_REFUSALS}:test_an_unknown_user_is_denied_and_nothing_is_ordered"
    ],
    "the user check delays while rs-admin is away": [
        f"{_REFUSALS}:test_an_outage_of_rs_admin_delays_and_does_not_deny"
    ],
    "the same correlationId while active is ignored": [
        f"{_DELIVERY}:test_a_request_sent_again_while_active_is_not_a_second_delivery"
    ],
    "the same correlationId after the end is a new delivery": [
        f"{_DELIVERY}:test_a_correlation_id_may_be_used_again_after_its_delivery_has_ended"
    ],
    # DeliveryResponseDtoEvent
    "GRANTED, DONE with url and md5": [
        f"{_DELIVERY}:test_one_product_is_delivered_with_its_files_at_the_root",
        _FORM,
    ],
    "DENIED with errorType and message": [_RULES],
    "ERROR with errorType and message": [_ENDS],
    "additions: a client that knows REGARDS' fields alone is told the same, of their types": [
        f"{_U}.test_regards_client:test_done_is_the_same_with_all_that_is_added_and_without",
        f"{_U}.test_regards_client:test_nothing_that_it_does_not_know_is_required",
        f"{_A}.test_links:test_a_client_of_regards_is_told_the_same_with_all_that_is_added",
    ],
    "additions: httpUrl is had without credentials; altered and expired ones are refused": [
        f"{_A}.test_links:test_a_link_in_done_is_fetched_with_curl_and_refused_once_altered_or_over"
    ],
    "exactly one terminal response": [
        "tests.store.test_state_machine:test_each_delivery_ends_once_whatever_happens",
        f"{_WIRE}:test_good_bad_and_hostile_in_any_order_are_each_answered_once_or_dead_lettered",
    ],
    "EXPIRED": [
        f"{_I}.test_recovery:test_a_running_transfer_is_stopped_when_its_time_is_over",
        f"{_I}.test_recovery:test_a_request_that_may_take_no_time_ends_at_the_next_look",
        f"{_I}.test_expiry:test_a_delivery_whose_time_is_over_ends_in_any_state",
    ],
    # Orders
    "OrderRequestDtoEvent": [_FORM],
    "order GRANTED, SUBORDER_DONE, DONE, in any order and twice": [
        f"{_DELIVERY}:test_events_twice_and_in_reverse_give_one_delivery"
    ],
    "order DENIED, FAILED, errors, several suborders, errorType and errorCode": [_ENDS],
    "an event for an unknown, finished or failed delivery changes nothing": [
        f"{_STORE}:test_an_event_of_another_order_or_delivery_changes_nothing"
    ],
    "OrderCancelRequestDtoEvent": [
        _ENDS,
        f"{_REFUSALS}:test_a_failed_order_ends_in_error_and_is_cancelled",
        f"{_I}.test_expiry:test_an_order_that_becomes_known_after_the_end_is_cancelled_once",
    ],
    "an order event that can't be understood: its queue's DLQ": [
        f"{_DEAD_LETTERS}:test_an_order_event_that_says_nothing_to_us_is_kept"
    ],
    # rs-order
    "listing: 204 and none": [f"{_LISTING}:test_an_empty_list_and_204_are_an_empty_order"],
    "listing: 206, 403, 404": [
        f"{_LISTING}:test_a_listing_that_is_refused_or_not_ready_is_told_with_its_order"
    ],
    "listing: flat form, fileSize, pages by links": [
        f"{_LISTING}:test_the_flat_form_and_pages_by_links_are_read"
    ],
    "files: 202, 5xx, dropped": [f"{_REFUSALS}:test_faults_that_pass_only_delay"],
    "files: 403, 404, 422": [
        f"{_REFUSALS}:test_a_file_that_stays_wrong_ends_in_error_without_an_archive"
    ],
    # What is delivered
    "one product: at the root": [
        f"{_DELIVERY}:test_one_product_is_delivered_with_its_files_at_the_root"
    ],
    "several products: a folder each": [
        f"{_DELIVERY}:test_several_products_are_delivered_in_a_folder_each"
    ],
    "names are safe and never the same": [
        f"{_U}.test_extraction:test_zipfile_writes_each_member_below_its_folder",
        f"{_U}.test_extraction:test_unzip_writes_each_member_below_its_folder",
        f"{_U}.test_extraction:test_a_key_has_two_components_whatever_the_names",
    ],
    "one wrong file: no archive": [
        f"{_REFUSALS}:test_a_file_that_stays_wrong_ends_in_error_without_an_archive"
    ],
    "the same files give the same MD5": [
        f"{_DELIVERY}:test_a_correlation_id_may_be_used_again_after_its_delivery_has_ended"
    ],
    "another tenant's or user's object is not replaced, nor its upload aborted; one's own is": [
        f"{_OBJECTS}:test_the_second_of_two_tenants_with_one_bucket_and_one_id_ends_in_words",
        f"{_OBJECTS}:test_a_user_can_not_replace_what_another_user_was_told",
        f"{_OBJECTS}:test_a_failed_delivery_does_not_abort_what_another_tenant_is_uploading",
        f"{_DELIVERY}:test_a_correlation_id_may_be_used_again_after_its_delivery_has_ended",
    ],
    # Tenant settings
    "five settings with their defaults, content and links; by names; under the prefix": [
        f"{_SETTINGS}:test_every_setting_is_shown_with_its_default",
        f"{_SETTINGS}:test_only_the_settings_that_are_named_are_shown",
    ],
    "PUT and DELETE; 404; 422 with every reason": [
        f"{_SETTINGS}:test_a_setting_is_changed_and_put_back",
        f"{_SETTINGS}:test_an_unknown_setting_is_not_found",
        f"{_SETTINGS}:test_a_wrong_value_is_refused_with_every_reason",
    ],
    "a secret is masked, kept when the mask comes back, sealed where it is stored": [
        f"{_SETTINGS}:test_a_secret_is_masked_and_kept",
        f"{_I}.test_configured_service:test_settings_take_effect_while_the_service_works",
    ],
    "the configuration file, as REGARDS writes and reads it": [
        f"{_FILES}:test_a_file_of_regards_is_taken",
        f"{_FILES}:test_the_file_has_the_form_of_regards",
    ],
    "imports: 201, 206, 409, 422; resetBeforeImport": [
        f"{_FILES}:test_a_part_of_a_file_is_taken_and_the_rest_told",
        f"{_FILES}:test_a_file_of_which_nothing_can_be_taken_changes_nothing",
        f"{_FILES}:test_a_file_that_is_no_configuration_is_refused",
        f"{_FILES}:test_reset_before_import_puts_back_what_the_file_does_not_name",
    ],
    "ready, enabled": [
        f"{_FILES}:test_readiness_names_what_is_away_and_what_was",
        f"{_FILES}:test_regards_hears_that_it_can_ask",
    ],
    "maintenance: REST answers 503, messages wait": [
        f"{_W}.test_operation:test_a_tenant_in_maintenance_is_told_so",
        f"{_I}.test_configuration:test_requests_of_a_tenant_in_maintenance_wait_and_then_begin",
    ],
    "security/resources": [f"{_W}.test_operation:test_every_endpoint_is_a_resource_with_its_role"],
    "tokens, roles, tenants": [
        f"{_ACCESS}:test_a_token_that_proves_nothing_is_refused",
        f"{_ACCESS}:test_tokens_of_regards_are_accepted",
        f"{_ACCESS}:test_roles_open_what_they_are_for",
        f"{_ACCESS}:test_no_caller_touches_another_tenant",
    ],
    "errors are JSON": [f"{_ACCESS}:test_errors_are_json_in_words"],
    # Static configuration
    "properties of REGARDS are accepted": [
        f"{_U}.test_settings:test_names_of_regards_are_understood"
    ],
}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_tests_that_exist(row: str) -> None:
    for test in ROWS[row]:
        module, _, name = test.partition(":")
        assert callable(getattr(importlib.import_module(module), name)), test
