/// What is read from good files of all dialects, and how tensors are found.

#include "catch.hpp"
#include "wts_files.hpp"

#include <thread>
#include <type_traits>

using namespace files;
using porter::Dialect;
using porter::DType;
using porter::ErrorCode;
using Bits = std::vector<std::uint32_t>;
using Shape = std::vector<std::int64_t>;

static_assert(std::is_nothrow_move_constructible_v<porter::Weights>);
static_assert(std::is_nothrow_copy_constructible_v<porter::WtsError>);
static_assert(noexcept(porter::try_parse(nullptr, 0)));

TEST_CASE("tensorrtx") {
    const porter::Weights weights = parse("3\na.weight 3 3f800000 00000000 BF80000a\nb 0\nc 1 7fc00001\n");
    CHECK(weights.dialect() == Dialect::tensorrtx);
    REQUIRE(weights.size() == 3);
    const porter::Tensor& a = weights.at("a.weight");
    CHECK(bits(a) == Bits{0x3f800000, 0, 0xbf80000a});
    CHECK(a.dtype() == DType::float32);
    CHECK(a.as<float>()[0] == 1.0f);
    CHECK(a.shape() == Shape{3});
    CHECK_FALSE(a.shape_known());
    CHECK(a.line() == 2);
    CHECK(a.offset() == 13);
    CHECK(weights.at("b").count() == 0);
    CHECK(weights.at("b").data() != nullptr);
    CHECK(bits(weights.at("c")) == Bits{0x7fc00001});
    CHECK(weights[2].name() == "c");
    CHECK(weights.notices().size() == 1);
}

TEST_CASE("nvidia-v1") {
    const porter::Weights weights = parse("4\na 0 3 3f800000 0 bf80000a \nb 1 2 3c00 1 \nc 2 3 7f ff 80 \nd 3 2 ffffffff 7 \n");
    CHECK(weights.dialect() == Dialect::nvidia_v1);
    CHECK(bits(weights.at("a")) == Bits{0x3f800000, 0, 0xbf80000a});
    CHECK(weights.at("b").dtype() == DType::float16);
    CHECK(weights.at("b").as<std::uint16_t>()[0] == 0x3c00);
    CHECK(weights.at("b").as<std::uint16_t>()[1] == 1);
    const auto* const c = weights.at("c").as<std::int8_t>();
    CHECK((c[0] == 127 && c[1] == -1 && c[2] == -128));
    const auto* const d = weights.at("d").as<std::int32_t>();
    CHECK((d[0] == -1 && d[1] == 7));
}

TEST_CASE("nvidia-v2") {
    const porter::Weights weights = parse("5\na 0 (2, 1) \0\0\x80\x3f\n\n\n\n\nb 1 (1,) ab\nc 2 () x\nd 3 (2L, 0) \ne 0 (0,) \n"s);
    CHECK(weights.dialect() == Dialect::nvidia_v2);
    CHECK(bits(weights.at("a")) == Bits{0x3f800000, 0x0a0a0a0a});
    CHECK(weights.at("a").shape() == Shape{2, 1});
    CHECK(weights.at("a").shape_known());
    CHECK(weights.at("a").line() == 0);
    CHECK(weights.at("b").as<std::uint16_t>()[0] == 0x6261);
    CHECK(weights.at("c").shape().empty());
    CHECK(weights.at("c").as<std::int8_t>()[0] == 'x');
    CHECK(weights.at("d").shape() == Shape{2, 0});
    CHECK(weights.notices().empty());
}

TEST_CASE("files of the wild") {
    const Bits expected{0x3f800000, 0x12345678};
    for (const char* const text :
         {"1\na 2  3f800000 12345678\n", "1\na 2 3f800000 12345678", "1\r\na 2 3f800000 12345678\r\n", "1\na 2 3f800000 12345678\n\n \n",
          "1\na 2 3f800000 12345678 \n", "1\na 2 3f800000  12345678\n", "1\na\t2\t3f800000\t12345678\n",
          " 1 \n\n\n a 2 3F800000 12345678\n", "1\na 0 2 3f800000 12345678 \n", "1\na 0 2  3f800000   12345678"}) {
        INFO(text);
        CHECK(bits(parse(text).at("a")) == expected);
    }
    CHECK(bits(parse("1\na 0 2 3f800000 1\n").at("a")) == Bits{0x3f800000, 1});
    CHECK(parse("0\n").empty());
    CHECK(parse("0").empty());
    CHECK(parse("1\n\xc3\xa4\xff 1 00000001\n").contains("\xc3\xa4\xff"));
}

TEST_CASE("which dialect") {
    const auto dialect = [](const std::string& text) { return parse(text).dialect(); };
    CHECK(dialect("2\na 0\nb 1 3f800000\n") == Dialect::tensorrtx);
    CHECK(dialect("1\nw 2 12345678 12345678\n") == Dialect::tensorrtx);
    CHECK(dialect("1\nw 3 00000002 00000000 00000001\n") == Dialect::tensorrtx);
    CHECK(dialect("1\nw 1 1 1 \n") == Dialect::nvidia_v1);
    CHECK(dialect("1\nw 0 0 \n") == Dialect::nvidia_v1);
    CHECK(dialect("1\nw 0 (0,) \n") == Dialect::nvidia_v2);
    porter::Options options;
    options.dialect = Dialect::nvidia_v1;
    CHECK(bits(parse("1\na 0 1 1 \n", options).at("a")) == Bits{1});
    options.dialect = Dialect::tensorrtx;
    CHECK(fault("1\na 0 1 1 \n", options).code == ErrorCode::mixed_dialects);
}

TEST_CASE("values lie at multiples of 64 bytes and live as long as anything of them") {
    porter::Weights weights = parse("3\na 1 00000001\nb 20 " + [] {
        std::string row;
        for (std::uint32_t i = 0; i < 20; ++i) {
            row += (i == 0 ? "" : " ") + word(i);
        }
        return row;
    }() + "\nc 1 00000003\n");
    for (const porter::Tensor& tensor : weights) {
        CHECK(reinterpret_cast<std::uintptr_t>(tensor.data()) % 64 == 0);
    }
    const void* const data = weights.at("b").data();
    const porter::Weights moved = std::move(weights);
    CHECK(moved.at("b").data() == data);
    CHECK(weights.empty()); // NOLINT: what is moved from is empty, and can be asked
    CHECK(weights.find("b") == nullptr);
    CHECK_THROWS_AS(weights.at("b"), porter::WtsError);
    weights = parse("1\nz 1 00000009\n");
    CHECK(bits(weights.at("z")) == Bits{9});
    const porter::Tensor kept = parse("1\nz 2 00000009 00000008\n").at("z");
    CHECK(bits(kept) == Bits{9, 8});
    const porter::Weights copied = moved;
    CHECK(copied.at("b").data() == data);
}

TEST_CASE("what is not there") {
    const porter::Weights weights = parse("3\nconv1.weight 1 00000001\nconv2.weight 1 00000001\nfc.bias 1 00000001\n");
    const auto hint = [&](const char* name) {
        try {
            (void)weights.at(name);
        } catch (const porter::WtsError& error) {
            CHECK(error.error().code == ErrorCode::missing_tensor);
            CHECK(error.error().tensor == name);
            return error.error().hint;
        }
        return std::string("found");
    };
    CHECK(hint("conv1.wieght") == "did you mean 'conv1.weight' or 'conv2.weight'?");
    CHECK(hint("module.fc.bias") == "did you mean 'fc.bias'?");
    CHECK(hint("bias") == "did you mean 'fc.bias'?");
    CHECK(hint("zzzzzzzzzz") == "none of the 3 names is like it; the first is 'conv1.weight'");
    CHECK(hint("") == "none of the 3 names is like it; the first is 'conv1.weight'");
    CHECK(hint("fc.bias") == "found");
    CHECK(weights.find("fc.bia") == nullptr);
    CHECK_FALSE(weights.contains("fc"));
}

TEST_CASE("shapes and types are checked when they are said") {
    const porter::Weights flat =
        parse("1\na 6 " + word(1) + " " + word(2) + " " + word(3) + " " + word(4) + " " + word(5) + " " + word(6) + "\n");
    CHECK(flat.at("a", {2, 3}).count() == 6);
    CHECK(flat.at("a", {6}).count() == 6);
    const auto code = [](auto call) {
        try {
            call();
        } catch (const porter::WtsError& error) {
            CHECK(error.error().tensor == "a");
            return error.error().code;
        }
        return ErrorCode::ok;
    };
    CHECK(code([&] { (void)flat.at("a", {7}); }) == ErrorCode::wrong_shape);
    CHECK(code([&] { (void)flat.at("a", {-2, -3}); }) == ErrorCode::wrong_shape);
    CHECK(code([&] { (void)flat.at("a", {std::int64_t{1} << 62, 8, 3}); }) == ErrorCode::wrong_shape);
    const porter::Weights shaped = parse("1\na 2 (2, 3) abcdef\n");
    CHECK(shaped.at("a", {2, 3}).count() == 6);
    CHECK(code([&] { (void)shaped.at("a", {3, 2}); }) == ErrorCode::wrong_shape);
    CHECK(code([&] { (void)shaped.at("a").as<float>(); }) == ErrorCode::wrong_type);
    CHECK(code([&] { (void)flat.at("a").as<std::uint32_t>(); }) == ErrorCode::ok);
}

TEST_CASE("only some tensors") {
    const std::string text = "3\na 1 00000001\nb 2 xxxxxxxx 00000002\nc 1 00000003\n";
    CHECK(fault(text).code == ErrorCode::stray_character);
    porter::Options options;
    options.only = {"c", "a", "c"};
    const porter::Weights weights = parse(text, options);
    REQUIRE(weights.size() == 2);
    CHECK(weights[0].name() == "a");
    CHECK(bits(weights.at("c")) == Bits{3});
    options.only = {"a", "d"};
    const porter::Error error = fault(text, options);
    CHECK(error.code == ErrorCode::missing_tensor);
    CHECK(error.tensor == "d");
    CHECK(error.hint == "none of the 3 names is like it; the first is 'a'");
}

TEST_CASE("limits") {
    porter::Options options;
    options.max_tensors = 2;
    CHECK(parse("2\na 1 00000001\nb 1 00000001\n", options).size() == 2);
    CHECK(fault("3\na 1 00000001\nb 1 00000001\nc 1 00000001\n", options).code == ErrorCode::over_limit);
    CHECK(fault("3\na 2 (1,) x\nb 2 (1,) x\nc 2 (1,) x\n", options).code == ErrorCode::over_limit);
    options.max_tensors = 10;
    options.max_bytes = 64;
    CHECK(parse("1\na 1 00000001\n", options).size() == 1);
    CHECK(fault("2\na 1 00000001\nb 1 00000001\n", options).code == ErrorCode::over_limit);
    // Counts beyond what the file can hold are wrong before they are memory.
    CHECK(fault("1\na 999999999999999999 3f800000\n").code == ErrorCode::too_few_values);
    CHECK(fault("1\na 0 999999999999999999 0 \n").code == ErrorCode::too_few_values);
    CHECK(fault("1\na 0 (999999999999999999, 999999999999999999) x\n").code == ErrorCode::truncated);
    CHECK(parse("1\na 0 (999999999999999999, 999999999999999999, 0) \n").at("a").count() == 0);
    CHECK(fault("999999999999999999\na 1 3f800000\n").code == ErrorCode::wrong_tensor_count);
}

namespace {
/// A file of one large tensor with small ones around it, and its values.
std::string large(std::size_t count, Bits& values, const char* separator = " ") {
    Numbers numbers(count);
    std::string text = "3\nfirst 1 00000001\nlarge " + std::to_string(count) + " ";
    values.clear();
    for (std::size_t i = 0; i < count; ++i) {
        values.push_back(numbers.next());
        text += (i == 0 ? "" : separator) + word(values.back());
    }
    return text + "\nlast 1 00000002\n";
}
} // namespace

TEST_CASE("any number of threads reads the same") {
    Bits values;
    std::string text = large(600'000, values);
    const std::size_t at = text.find('\n', 2) + 14;
    for (const unsigned threads : {1u, 2u, 3u, 0u}) {
        porter::Options options;
        options.threads = threads;
        CHECK(bits(parse(text, options).at("large")) == values);
        options.narrow = porter::Narrow::half;
        CHECK(parse(text, options).at("large").sha256() == parse(text,
                                                                 [&] {
                                                                     options.threads = 1;
                                                                     return options;
                                                                 }())
                                                               .at("large")
                                                               .sha256());
        options.threads = threads;
        options.narrow = porter::Narrow::none;
        // One odd separator, deep within: the rest is searched for, and values stay the same.
        std::string odd = text;
        odd[at + 9 * 400'000 + 8] = '\t';
        CHECK(bits(parse(odd, options).at("large")) == values);
        // Two faults: the first one is said, whichever thread finds which.
        odd[at + 9 * 500'000 + 3] = 'x';
        odd[at + 9 * 590'000 + 3] = 'y';
        const porter::Error error = fault(odd, options);
        CHECK(error.code == ErrorCode::stray_character);
        CHECK(error.offset == at + 9 * 500'000 + 3);
        CHECK(error.line == 3);
        CHECK(error.column == 1 + 13 + 9 * 500'000 + 3);
        CHECK(error.tensor == "large");
    }
    CHECK(bits(parse(large(50'000, values, "  ")).at("large")) == values);
}

TEST_CASE("weights may be used from several threads") {
    Bits values;
    const porter::Weights weights = parse(large(10'000, values));
    std::vector<std::thread> threads;
    std::vector<int> good(4);
    for (std::size_t i = 0; i < good.size(); ++i) {
        threads.emplace_back([&, i] {
            good[i] = bits(weights.at("large", {100, 100})) == values && weights.at("large").crc32() == weights[1].crc32() &&
                      weights.find("x") == nullptr;
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    CHECK(good == std::vector<int>{1, 1, 1, 1});
}

TEST_CASE("files are mapped, and may be replaced afterwards") {
    Folder folder;
    Bits values;
    const std::string path = folder.write("m.wts", large(3'000'000, values));
    const porter::Weights weights = porter::load(path);
    folder.write("m.wts", "0\n");
    CHECK(bits(weights.at("large")) == values);
    CHECK(weights.path() == path);
    const porter::Result result = porter::try_load(path);
    REQUIRE(result);
    CHECK(result.weights.empty());
}

TEST_CASE("files that are none") {
    Folder folder;
    CHECK(porter::try_load(folder.path() + "/none.wts").error.code == ErrorCode::cannot_open);
    CHECK(porter::try_load(folder.path()).error.code == ErrorCode::not_a_file);
    CHECK(porter::try_load("a\0b"s).error.code == ErrorCode::cannot_open);
    CHECK(porter::try_load(folder.write("empty.wts", "")).error.code == ErrorCode::no_tensor_count);
    CHECK_THROWS_AS(porter::load(folder.path() + "/none.wts"), porter::WtsError);
    CHECK(porter::try_parse(nullptr, 0).error.code == ErrorCode::no_tensor_count);
}
